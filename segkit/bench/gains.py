"""What each technique of an ablation gives, alone and in company."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from segkit.bench.ablation import Technique, combined
from segkit.bench.comparison import CellResult, Comparison
from segkit.bench.pareto import DICE
from segkit.bench.study import Settings
from segkit.bench.words import setting, settings
from segkit.profiling.summary import Interval


@dataclass(frozen=True)
class Gain:
    """One technique; ratios of images/s, the setting with it over the one without."""

    name: str
    alone: Interval | None  # added to the plain loop
    added: Interval | None  # added to the plain loop with those before it
    removed: Interval | None  # the full set over the full set without it
    memory: float | None  # bytes that adding it after those before it took
    dice: float | None  # change of the test Dice by the same
    after: CellResult | None  # the plain loop with those before it and itself


@dataclass(frozen=True)
class Ablation:
    """At one point of the grid."""

    name: str  # of the point; empty where there is only one
    plain: CellResult | None
    gains: list[Gain]
    whole: Interval | None  # the full set over the plain loop


def ablations(comparison: Comparison) -> list[Ablation]:
    """One at each point of the study's grid; none of a sweep."""
    techniques = comparison.study.techniques
    return [_ablation(comparison, point, techniques) for point in comparison.study.points()] if techniques else []


def _ablation(comparison: Comparison, point: Settings, techniques: Sequence[Technique]) -> Ablation:
    def cell(chosen: Sequence[Technique]) -> CellResult | None:
        return comparison.find(comparison.study.cell(combined(point, chosen)))

    def ratio(one: CellResult | None, other: CellResult | None) -> Interval | None:
        return comparison.effects.ratio(one.id, other.id) if one and other else None

    plain, full = cell([]), cell(techniques)
    gains = []
    for i, technique in enumerate(techniques):
        before, after = cell(techniques[:i]), cell(techniques[: i + 1])
        others = [other for other in techniques if other is not technique]
        gains.append(
            Gain(
                setting(*technique),
                ratio(cell([technique]), plain),
                ratio(after, before),
                ratio(full, cell(others)),
                _difference(_memory(after), _memory(before)),
                _difference(_dice(after), _dice(before)),
                after,
            )
        )
    return Ablation(settings(point, comparison.study.axes), plain, gains, ratio(full, plain))


def _memory(cell: CellResult | None) -> float | None:
    """Peak bytes, of the GPU where there is one."""
    if cell is None:
        return None
    found = cell.mean("memory_gpu")
    return found if found is not None else cell.mean("memory_host")


def _dice(cell: CellResult | None) -> float | None:
    found = cell.figure(DICE) if cell else None
    return found.value if found else None


def _difference(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def is_clear(ratio: Interval | None) -> bool:
    """Whether the interval leaves no doubt that there is a change, and in which direction."""
    return ratio is not None and ratio.low is not None and ratio.high is not None and not ratio.low <= 1 <= ratio.high
