"""Rates of cells and their ratios with intervals, from measurements that were made in rounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segkit.bench.rows import Row
from segkit.profiling.rates import student_t
from segkit.profiling.summary import Interval

LEAST_FREEDOM = 3  # degrees below which `student_t` does not hold, and an interval would say nothing


@dataclass(frozen=True)
class Effects:
    """log(value) = cell + round + noise, by least squares; the noise is alike in all cells.

    A machine that is slower in one round than in the next is thereby taken out of every comparison of cells, and the
    noise is estimated from all of them together: two or three repeats of a cell alone could not tell it.
    (Box, Hunter and Hunter, Statistics for Experimenters, 2nd ed., chapter 4: randomised blocks.)
    """

    logs: dict[str, float]  # cell -> log of its value in a mean round
    counts: dict[str, int]  # cell -> its measurements
    noise: float | None  # standard deviation of one log value; None: too few measurements
    freedom: int
    within: dict[str, float]  # cell -> standard error of its log within its measurements

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Effects:
        """From the rates of finished measurements."""
        rows = [row for row in rows if row.done and row.images_per_s]
        cells, rounds = (list(dict.fromkeys(getattr(row, key) for row in rows)) for key in ("cell", "repeat"))
        if not rows:
            return cls({}, {}, None, 0, {})
        design = np.zeros((len(rows), len(cells) + len(rounds) - 1))
        for i, row in enumerate(rows):
            design[i, cells.index(row.cell)] = 1
            shift = _round_contrast(rounds.index(row.repeat), len(rounds))
            design[i, len(cells) :] = shift
        values = np.log([row.images_per_s or 1.0 for row in rows])
        found, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
        freedom = len(rows) - int(rank)
        rest = float(np.square(values - design @ found).sum())
        noise = math.sqrt(rest / freedom) if freedom >= LEAST_FREEDOM else None
        counts = {cell: sum(row.cell == cell for row in rows) for cell in cells}
        return cls(dict(zip(cells, found, strict=False)), counts, noise, freedom, _within(rows))

    def rate(self, cell: str) -> Interval | None:
        """The cell's rate, with its 95 % interval."""
        if cell not in self.logs:
            return None
        return self._interval(self.logs[cell], self._variance(cell))

    def ratio(self, cell: str, other: str) -> Interval | None:
        """How many times as fast as another cell; None where one was not measured.

        It has a 95 % interval only where repeats tell the noise: two trainings differ by more than what varies
        within one of them, so that without repeats every difference would look like an effect.
        """
        if cell not in self.logs or other not in self.logs:
            return None
        shared = None if self.noise is None else self.noise**2 * (1 / self.counts[cell] + 1 / self.counts[other])
        return self._interval(self.logs[cell] - self.logs[other], shared)

    def _variance(self, cell: str) -> float | None:
        """Of the cell's log. With too few repeats to tell the noise, what varies within a measurement stands for it."""
        if self.noise is not None:
            return self.noise**2 / self.counts[cell]
        return self.within[cell] ** 2 if cell in self.within else None

    def _interval(self, log: float, variance: float | None) -> Interval:
        if variance is None:
            return Interval(math.exp(log))
        half = min(50.0, (student_t(self.freedom) if self.noise is not None else 1.96) * math.sqrt(variance))
        return Interval(math.exp(log), math.exp(log - half), math.exp(log + half))

    @property
    def told_by(self) -> str:
        """What the intervals rest on, in a sentence."""
        if self.noise is None:
            return (
                "Intervals (95 %) are those of the steps within a measurement: there are too few repeats to tell "
                "how much one measurement differs from the next, so they are too narrow, and no two cells are told "
                "apart by them."
            )
        return (
            f"Intervals (95 %) rest on repeats: one measurement differs from the next by {100 * self.noise:.1f} % "
            f"(standard deviation over all cells, rounds taken out, {self.freedom} degrees of freedom)."
        )


def _round_contrast(index: int, count: int) -> list[float]:
    """Sum-to-zero coding: the rounds' shifts add up to nothing, so that a cell's value is that of a mean round."""
    return [-1.0] * (count - 1) if index == count - 1 else [float(i == index) for i in range(count - 1)]


def _within(rows: Sequence[Row]) -> dict[str, float]:
    """Standard error of each cell's log rate by its measurements' own intervals."""
    errors: dict[str, list[float]] = {}
    for row in rows:
        if row.images_low is not None and row.images_high is not None and row.images_per_s:
            errors.setdefault(row.cell, []).append((row.images_high - row.images_low) / 2 / 1.96 / row.images_per_s)
    return {cell: math.sqrt(sum(e**2 for e in found)) / len(found) for cell, found in errors.items()}
