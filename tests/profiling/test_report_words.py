"""Figures as text, and long series made short."""

from __future__ import annotations

import math

import numpy as np
import pytest

from segkit.profiling.report import words
from segkit.profiling.report.series import BINS, line, thinned
from segkit.profiling.summary import Interval


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (math.inf, "–"),
        (0.0, "0"),
        (0.004123, "0.00412"),
        (4.5678, "4.57"),
        (45.678, "45.7"),
        (456.78, "457"),
        (1234567.0, "1,234,567"),
        (-3.14159, "-3.14"),
    ],
)
def test_numbers_have_three_digits_and_no_exponent(value: float | None, said: str) -> None:
    assert words.number(value) == said


@pytest.mark.parametrize(
    ("value", "said"), [(None, "–"), (0.0, "0.0 %"), (0.0004, "< 0.1 %"), (0.2104, "21.0 %"), (1.0, "100.0 %")]
)
def test_a_share_that_was_not_measured_is_no_zero(value: float | None, said: str) -> None:
    assert words.share(value) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "–"),
        (0.0, "0 s"),
        (0.042, "42.0 ms"),
        (4.213, "4.21 s"),
        (45.21, "45.2 s"),
        (723.0, "12 min 3 s"),
        (3599.6, "1 h 0 min"),
        (25_500.0, "7 h 5 min"),
    ],
)
def test_durations(seconds: float | None, said: str) -> None:
    assert words.duration(seconds) == said


def test_an_interval_is_said_where_there_is_one() -> None:
    assert words.interval(Interval(812.0, 790.0, 834.0)) == "812 [790, 834]"
    assert words.interval(Interval(812.0)) == "812"
    assert words.interval(Interval(0.296, 0.281, 0.311), words.share) == "29.6 % [28.1 %, 31.1 %]"
    assert words.interval(None) == "–"


def test_text_from_outside_is_one_line_without_control_characters() -> None:
    assert words.one_line("a\n\tb\x1b[31mc\u202e") == "a b [31mc"
    assert words.one_line("x" * 50, 10) == "x" * 9 + "…"


def test_a_short_series_is_drawn_as_it_is_with_its_gaps() -> None:
    found = line([{"t": [10.0, 11.0, 12.0], "util": [0.5, None, 0.7]}], "util", 10.0)
    assert found is not None
    assert found.t.tolist() == [0.0, 1.0, 2.0]
    assert found.mean[0] == 0.5
    assert np.isnan(found.mean[1])
    assert not found.spread


def test_a_long_series_keeps_its_mean_and_its_peaks() -> None:
    n = 86_400
    values: list[float | None] = [0.5] * n
    values[40_000] = 1.0
    values[40_001] = 0.0
    found = line([{"t": list(range(n)), "util": values}], "util", 0.0)
    assert found is not None
    assert len(found.t) == BINS
    assert np.nanmax(found.high) == 1.0
    assert np.nanmin(found.low) == 0.0
    assert np.mean(found.mean) == pytest.approx(0.5)


def test_a_long_gap_stays_a_gap() -> None:
    n = 2400
    values = [None if 1000 <= i < 1400 else 1.0 for i in range(n)]
    found = line([{"t": list(range(n)), "power": values}], "power", 0.0, scale=2.0)
    assert found is not None
    assert np.isnan(found.mean[100:140]).all()
    assert set(found.mean[~np.isnan(found.mean)]) == {2.0}


def test_several_devices_become_their_mean_with_their_extremes() -> None:
    t = [float(i) for i in range(100)]
    found = line([{"t": t, "util": [0.2] * 100}, {"t": t, "util": [0.6] * 100}], "util", 0.0)
    assert found is not None
    assert np.allclose(found.mean, 0.4)
    assert np.allclose(found.low, 0.2)
    assert np.allclose(found.high, 0.6)


def test_nothing_measured_is_no_line() -> None:
    assert line([], "util", 0.0) is None
    assert line([{"t": [1.0], "util": [None]}, {"t": []}], "util", 0.0) is None


def test_thinning_keeps_both_ends() -> None:
    assert thinned(range(1000), 3) == [0, 500, 999]
    assert thinned([4, 5], 3) == [4, 5]
