"""Differential stall analysis: run a job with a part left out, and see what the part costs."""
