"""Intervals against simulations with a known rate, and against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from segkit.profiling.rates import BLOCKS, mean_interval, quotient_share, rate, student_t
from segkit.profiling.summary import Interval


@pytest.mark.parametrize("degrees", [3, 4, 5, 7, 10, 19, 50, 200])
def test_the_quantile_is_that_of_students_distribution(degrees: int) -> None:
    assert student_t(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=0.005)


def independent(random: np.random.Generator, steps: int) -> np.ndarray:
    """Seconds of steps with the long tail that step times have; their mean is 0.1."""
    return 0.05 + random.exponential(0.05, steps)


def correlated(random: np.random.Generator, steps: int) -> np.ndarray:
    """Neighbours resemble each other (0.8 of the deviation stays from step to step); their mean is 0.1."""
    seconds, deviation = np.empty(steps), 0.0
    for k in range(steps):
        deviation = 0.8 * deviation + random.normal(0, 0.004)
        seconds[k] = 0.1 + deviation
    return seconds


@pytest.mark.parametrize(("steps", "times"), [(200, independent), (40, independent), (1000, correlated)])
def test_the_interval_holds_the_true_rate_in_19_of_20_experiments(steps: int, times: object) -> None:
    random, held = np.random.default_rng(7), []
    for _ in range(600):
        interval = rate(np.full(steps, 8), times(random, steps))  # type: ignore[operator]
        assert interval.low is not None
        assert interval.high is not None
        held.append(interval.low <= 80 <= interval.high)
    # 600 experiments know the share to about 0.02; blocks of correlated steps still resemble each other a little.
    assert 0.90 <= np.mean(held) <= 0.985


def test_equal_amounts_give_the_interval_of_a_mean() -> None:
    """With equal times the ratio is a mean, whose interval SciPy knows."""
    amounts = np.random.default_rng(0).normal(50, 5, BLOCKS)
    interval = rate(amounts, np.ones(BLOCKS))
    low, high = stats.t.interval(0.95, BLOCKS - 1, loc=amounts.mean(), scale=stats.sem(amounts))
    assert interval.value == pytest.approx(amounts.mean())
    assert (interval.low, interval.high) == (pytest.approx(low, rel=1e-3), pytest.approx(high, rel=1e-3))


def test_the_rate_is_all_over_all_not_the_mean_of_rates() -> None:
    assert rate([10, 10], [1.0, 4.0]).value == 4.0
    assert rate([1, 30], [1.0, 1.0]).value == 15.5


def test_slow_drift_widens_the_interval() -> None:
    even = np.tile([0.09, 0.11], 200)
    drifting = np.sort(even)
    assert rate(np.ones(400), even).value == pytest.approx(rate(np.ones(400), drifting).value)
    wide, narrow = rate(np.ones(400), drifting), rate(np.ones(400), even)
    assert wide.relative_half_width is not None
    assert narrow.relative_half_width is not None
    assert wide.relative_half_width > 5 * narrow.relative_half_width


def test_too_few_steps_have_no_interval() -> None:
    assert rate([8] * 3, [0.1] * 3) == Interval(pytest.approx(80.0))
    assert rate([8] * 4, [0.1, 0.1, 0.1, 0.2]).low is not None
    assert rate([], []) == Interval(0.0)
    assert rate([8], [0.0]) == Interval(0.0)


def test_the_mean_of_values() -> None:
    interval = mean_interval(np.arange(100.0))
    assert interval.value == pytest.approx(49.5)
    assert interval.low is not None
    assert interval.low < 49.5


def test_the_share_lost_between_two_rates() -> None:
    lost = quotient_share(Interval(60.0, 58.8, 61.2), Interval(100.0, 99.0, 101.0))
    assert lost.value == pytest.approx(0.4)
    half = 0.6 * np.hypot(0.02, 0.01)
    assert (lost.low, lost.high) == (pytest.approx(0.4 - half), pytest.approx(0.4 + half))
    assert quotient_share(Interval(60.0), Interval(100.0, 99.0, 101.0)) == Interval(pytest.approx(0.4))
    assert quotient_share(Interval(60.0), Interval(0.0)) == Interval(0.0)


def test_the_interval_of_a_lost_share_holds_it_in_19_of_20_experiments() -> None:
    random, held = np.random.default_rng(3), []
    for _ in range(500):
        whole = rate(np.full(100, 8), independent(random, 100))
        part = rate(np.full(100, 8), 0.1 + independent(random, 100))  # twice the time
        lost = quotient_share(part, whole)
        assert lost.low is not None
        assert lost.high is not None
        held.append(lost.low <= 0.5 <= lost.high)
    assert 0.91 <= np.mean(held) <= 0.985
