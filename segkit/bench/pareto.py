"""Accuracy against cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from segkit.bench.comparison import CellResult, Comparison
from segkit.profiling.summary import Interval

DICE = "patient_dice_mean"
# figure of a cell -> what the axis says, and whether more is better
COSTS: dict[str, tuple[str, bool]] = {
    "images_per_s": ("training images/s", True),
    "gflops": ("GFLOPs of a forward pass", False),
    "wh_per_1000": ("GPU energy, Wh for 1,000 images", False),
}


@dataclass(frozen=True)
class Trade:
    """A cell's accuracy and one of its costs."""

    cell: CellResult
    name: str
    dice: Interval
    cost: float
    on_front: bool  # no other cell is better in one and at least as good in the other


def trades(comparison: Comparison, cost: str) -> list[Trade]:
    """Every cell whose test split was evaluated and whose cost is known."""
    found = []
    for cell in comparison.measured:
        dice, paid = cell.figure(DICE), cell.mean(cost)
        if dice is not None and paid is not None:
            found.append((cell, dice, paid))
    more = COSTS[cost][1]
    front = on_front([(dice.value, paid if more else -paid) for _, dice, paid in found])
    return [
        Trade(cell, comparison.name(cell), dice, paid, there)
        for (cell, dice, paid), there in zip(found, front, strict=True)
    ]


def on_front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Whether no other point is at least as high in both coordinates and higher in one."""
    return [
        not any(a >= x and b >= y and (a > x or b > y) for j, (a, b) in enumerate(points) if j != i)
        for i, (x, y) in enumerate(points)
    ]
