"""An ablation's cells: the plain loop, each technique alone, one after another, and all but one."""

from __future__ import annotations

from collections.abc import Sequence

from segkit.config import Value

Technique = tuple[str, Value]

# What most scripts begin with: float32, decoding at each access in the process that trains, no layout or kernel tuned.
PLAIN: dict[str, Value] = {
    "loader": "files",
    "workers": 0,
    "precision": "fp32",
    "channels_last": False,
    "compile": False,
    "fused": False,
    "pin": False,
}


def variants(point: dict[str, Value], techniques: Sequence[Technique]) -> list[dict[str, Value]]:
    """The settings of an ablation at one point of the grid; without techniques, the point itself."""
    if not techniques:
        return [point]
    count = len(techniques)
    sets = [*(range(n) for n in range(count + 1)), *([i] for i in range(count))]
    sets += [[j for j in range(count) if j != i] for i in range(count)]
    return [combined(point, [techniques[i] for i in chosen]) for chosen in sets]


def combined(point: dict[str, Value], chosen: Sequence[Technique]) -> dict[str, Value]:
    """The plain loop at a point of the grid, with some techniques."""
    return {**PLAIN, **point, **dict(chosen)}
