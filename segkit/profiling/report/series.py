"""Long series made short enough to draw, without hiding a peak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Series: TypeAlias = Mapping[str, Sequence[float | None]]

BINS = 240  # of a line; a chart is about 400 pixels wide


@dataclass(frozen=True)
class Line:
    """A quantity over time: the mean of each bin with its lowest and highest value; NaN where there is none."""

    t: Floats  # seconds since the beginning
    mean: Floats
    low: Floats
    high: Floats

    @property
    def spread(self) -> bool:
        """Whether lowest and highest differ anywhere."""
        return bool(np.nanmax(self.high - self.low) > 0)


def line(several: Sequence[Series], key: str, start: float, scale: float = 1.0) -> Line | None:
    """The series `key` of one or more devices as one line, in bins of equal time. None where no value is there.

    `start` is the Unix time that becomes 0; values are multiplied by `scale`.
    """
    pairs = [_pair(series, key, start, scale) for series in several if series.get(key)]
    pairs = [(t, values) for t, values in pairs if np.isfinite(values).any()]
    if not pairs:
        return None
    longest = max(len(t) for t, _ in pairs)
    if len(pairs) == 1 and longest <= BINS:
        t, values = pairs[0]
        return Line(t, values, values, values)
    return _binned(pairs, max(1, min(BINS, longest // 2)))


def _pair(series: Series, key: str, start: float, scale: float) -> tuple[Floats, Floats]:
    t, values = _floats(series["t"]), _floats(series[key])
    return t - start, values * scale


def _floats(values: Sequence[float | None]) -> Floats:
    found = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    return np.where(np.isfinite(found), found, np.nan)


def _binned(pairs: Sequence[tuple[Floats, Floats]], bins: int) -> Line:
    """Every bin weighs its samples equally; a bin that no sample falls into is a gap in the line."""
    t = np.concatenate([t for t, _ in pairs])
    values = np.concatenate([values for _, values in pairs])
    first, width = t.min(), max((t.max() - t.min()) / bins, 1e-9)
    index = np.minimum(((t - first) / width).astype(int), bins - 1)
    there = np.isfinite(values)
    index, values = index[there], values[there]
    counts = np.bincount(index, minlength=bins)
    low, high = np.full(bins, np.inf), np.full(bins, -np.inf)
    np.minimum.at(low, index, values)
    np.maximum.at(high, index, values)
    empty = counts == 0
    mean = np.bincount(index, weights=values, minlength=bins) / np.where(empty, 1, counts)
    low, high, mean = (np.where(empty, np.nan, each) for each in (low, high, mean))
    return Line(first + (np.arange(bins) + 0.5) * width, mean, low, high)


def thinned(values: Sequence[int], most: int) -> list[int]:
    """At most `most` of the values, evenly spaced, the first and the last among them."""
    if len(values) <= most:
        return list(values)
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]
