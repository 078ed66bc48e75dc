"""Rates with intervals, from the times of single steps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from segkit.profiling.summary import Interval

Values = Sequence[float] | np.ndarray

BLOCKS = 20  # steps close in time resemble each other; blocks of them do not


def rate(amounts: Values, seconds: Values) -> Interval:
    """Amount a second over all steps, with its 95 % interval.

    The interval is that of a ratio of means over blocks of consecutive steps (Cochran, Sampling Techniques, 6.3),
    so that slow drifts widen it; under 4 steps there is none.
    """
    total, time = float(np.sum(amounts)), float(np.sum(seconds))
    if time <= 0:
        return Interval(0.0)
    value = total / time
    count = min(BLOCKS, len(amounts))
    if count < 4:
        return Interval(value)
    x = np.array([np.sum(part) for part in np.array_split(np.asarray(amounts, float), count)])
    t = np.array([np.sum(part) for part in np.array_split(np.asarray(seconds, float), count)])
    deviation = math.sqrt(float(np.square(x - value * t).sum()) / (count * (count - 1))) / float(t.mean())
    half = student_t(count - 1) * deviation
    return Interval(value, value - half, value + half)


def mean_interval(values: Values) -> Interval:
    """Mean with its 95 % interval over blocks of consecutive values."""
    return rate(values, np.ones(len(values)))


def quotient_share(part: Interval, whole: Interval) -> Interval:
    """1 - part / whole, the share that is lost between two rates, with its interval (first-order propagation)."""
    if not whole.value:
        return Interval(0.0)
    quotient = part.value / whole.value
    one, two = part.relative_half_width, whole.relative_half_width
    if one is None or two is None:
        return Interval(1 - quotient)
    half = quotient * math.hypot(one, two)
    return Interval(1 - quotient, 1 - quotient - half, 1 - quotient + half)


def student_t(degrees: int) -> float:
    """The 97.5 % quantile of Student's distribution, for at least 3 degrees of freedom.

    Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.5; wrong by less than 0.5 %.
    """
    z = 1.959964
    g1 = (z**3 + z) / 4
    g2 = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    g3 = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    g4 = (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160
    return z + g1 / degrees + g2 / degrees**2 + g3 / degrees**3 + g4 / degrees**4
