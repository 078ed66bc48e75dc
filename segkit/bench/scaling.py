"""How training scales over ranks: a model of the time of a step, fitted to the measured cells.

    T(n) = s(n) * compute + bytes(n) / bandwidth + latency * log2(n)

`compute` belongs to each net and its other settings, bandwidth and latency to the machine. A ring all-reduce moves
bytes(n) = 2 (n - 1) / n times the gradients over each link (Patarasu and Yuan 2009, doi:10.1016/j.jpdc.2008.09.002).
s(n) is 1 where every rank has a device of its own. Ranks that share a machine's cores compute more slowly the more
they are: there s(n) is measured, as the growth of what a step takes outside the exchange of gradients.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segkit.bench.comparison import CellResult, Comparison
from segkit.profiling.summary import Interval

BYTES = 4  # of a gradient's element: the weights are float32 in every precision
DRAWS = 200  # of the parametric bootstrap
FURTHER = 3  # doublings beyond the largest number of ranks that was measured
FURTHER_SHARED = 1  # the same where ranks share cores: what more of them do to each other is not in the model


@dataclass(frozen=True)
class Point:
    """One number of ranks. Efficiency is images/s over (ranks x images/s of one rank)."""

    ranks: int
    measured: Interval | None  # images/s
    modelled: Interval  # images/s by the fit, with the interval that the noise of the cells gives it
    efficiency: float | None  # measured; None where one rank was not measured

    @property
    def predicted(self) -> bool:
        """Whether this is the model's word alone."""
        return self.measured is None


@dataclass(frozen=True)
class Curve:
    """A net with its other settings over numbers of ranks."""

    name: str
    cells: list[CellResult]
    points: list[Point]


@dataclass(frozen=True)
class ScalingFit:
    """The fitted machine, and the curves."""

    bandwidth: float | None  # bytes/s; None: the exchange takes no time that grows with the bytes
    latency: float  # seconds for each doubling of the ranks
    error: float  # root mean square of the relative differences between fit and measurement
    shared: bool  # the ranks share cores
    freedom: int  # measured cells less fitted parameters
    curves: list[Curve]


@dataclass(frozen=True)
class _Series:
    """What the fit needs of one curve."""

    cells: list[CellResult]
    slowing: dict[int, float]  # s(n) at the measured n

    @property
    def gradients(self) -> float:
        return BYTES * (self.cells[0].mean("parameters") or 0.0)

    def batch(self, ranks: int, hold: str) -> float:
        """Slices a step on each rank."""
        first = self.cells[0]
        return first.batch * first.ranks / ranks if hold == "global" else first.batch


def fit(comparison: Comparison) -> ScalingFit | None:
    """The model fitted to all cells; None where no net was measured with two numbers of ranks."""
    groups = [group for group in comparison.groups("gpus") if len({c.ranks for c in group}) > 1]
    groups = [group for group in groups if all(c.mean("parameters") and c.rate for c in group)]
    if not groups:
        return None
    hold, shared = comparison.study.config.hold, comparison.on_cpu
    series = [_Series(group, _slowing(group, shared)) for group in groups]
    noise = [_log_error(cell) for one in series for cell in one.cells]
    times = np.array([_seconds(cell) for one in series for cell in one.cells])
    found = _solve(series, times, hold)
    random = np.random.default_rng(0)
    drawn = [_solve(series, times * np.exp(random.normal(0, noise)), hold) for _ in range(DRAWS)]
    design = _design(series, hold)
    error = float(np.sqrt(np.mean(np.square(design @ found / times - 1))))
    curves = [_curve(comparison, one, i, found, drawn, hold, shared) for i, one in enumerate(series)]
    bandwidth = 1 / found[-2] if found[-2] > 0 else None
    return ScalingFit(bandwidth, float(found[-1]), error, shared, len(times) - len(found), curves)


def _seconds(cell: CellResult) -> float:
    """Of a step: the images of all ranks over their rate."""
    return cell.batch * cell.ranks / (cell.rate.value if cell.rate else math.nan)


def _log_error(cell: CellResult) -> float:
    width = cell.rate.relative_half_width if cell.rate else None
    return 0.0 if width is None else min(width, 1.0) / 1.96


def _slowing(group: Sequence[CellResult], shared: bool) -> dict[int, float]:
    """s(n), measured; 1 where ranks do not share cores."""
    own = {cell.ranks: (sum(cell.parts.values()) - cell.parts.get("sync", 0.0)) / cell.batch for cell in group}
    least = min(own)
    return {n: own[n] / own[least] if shared and own[least] else 1.0 for n in own}


def _slowing_at(one: _Series, ranks: int, shared: bool) -> float:
    """s(n) anywhere: beyond the measured ones, shared cores are divided among more ranks."""
    if ranks in one.slowing:
        return one.slowing[ranks]
    nearest = max((n for n in one.slowing if n <= ranks), default=min(one.slowing))
    return one.slowing[nearest] * (ranks / nearest if shared else 1.0)


def _terms(one: _Series, ranks: int, slowing: float, hold: str) -> tuple[float, float, float]:
    """The factors of compute (of one image), 1 / bandwidth, latency."""
    return slowing * one.batch(ranks, hold), 2 * (ranks - 1) / ranks * one.gradients, math.log2(ranks)


def _design(series: Sequence[_Series], hold: str) -> np.ndarray:
    rows = []
    for i, one in enumerate(series):
        for cell in one.cells:
            row = np.zeros(len(series) + 2)
            row[i], row[-2], row[-1] = _terms(one, cell.ranks, one.slowing[cell.ranks], hold)
            rows.append(row)
    return np.array(rows)


def _solve(series: Sequence[_Series], times: np.ndarray, hold: str) -> np.ndarray:
    """Least squares of the relative differences, no part below 0."""
    from scipy.optimize import nnls

    design = _design(series, hold) / times[:, None]
    scale = np.where(design.max(axis=0) > 0, design.max(axis=0), 1.0)
    found, _ = nnls(design / scale, np.ones(len(times)))
    solution: np.ndarray = found / scale
    return solution


def _curve(
    comparison: Comparison,
    one: _Series,
    index: int,
    found: np.ndarray,
    drawn: Sequence[np.ndarray],
    hold: str,
    shared: bool,
) -> Curve:
    by_ranks = {cell.ranks: cell for cell in one.cells}
    most, further = max(by_ranks), FURTHER_SHARED if shared else FURTHER
    counts = sorted({*by_ranks, *(most * 2**k for k in range(1, further + 1))})
    if hold == "global":
        counts = [n for n in counts if n in by_ranks or one.batch(n, hold) >= 1]
    alone = by_ranks.get(1)
    points = []
    for ranks in counts:
        compute, inverse, log = _terms(one, ranks, _slowing_at(one, ranks, shared), hold)
        images = one.batch(ranks, hold) * ranks
        rates = [images / (v[index] * compute + v[-2] * inverse + v[-1] * log) for v in [found, *drawn]]
        low, high = np.percentile(rates[1:], [2.5, 97.5])
        cell = by_ranks.get(ranks)
        rate = cell.rate if cell else None
        base = alone.rate.value if alone and alone.rate else None
        efficiency = rate.value / (ranks * base) if rate and base else None
        points.append(Point(ranks, rate, Interval(float(rates[0]), float(low), float(high)), efficiency))
    return Curve(comparison.name(one.cells[0], without=("gpus",)) or "all", one.cells, points)
