"""The comparison: many trainings, each a cell of a grid, measured alike and explained together."""
