"""Bootstrap intervals against plain Python loops over the same draws, and against what statistics expects."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from segkit.metrics import ConfusionTable, slice_confusions, summarise
from segkit.metrics.bootstrap import draws, estimate, over_patients, weighted_median

Patient = tuple[np.ndarray, np.ndarray]  # prediction, reference


def patients(count: int, seed: int) -> list[Patient]:
    """Random masks of 1 to 5 slices; the tumour's share and the errors differ from patient to patient."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        truth = rng.random((rng.integers(1, 6), 6, 7)) < rng.uniform(0, 0.4)
        truth[0] &= rng.random() < 0.5  # some first slices are empty
        made.append((np.where(rng.random(truth.shape) < rng.uniform(0, 0.3), ~truth, truth), truth))
    return made


def table_of(made: list[Patient]) -> ConfusionTable:
    counted = [(f"p{i}", slice_confusions(guess, truth, 2)) for i, (guess, truth) in enumerate(made)]
    return ConfusionTable.from_patients(counted, ("background", "tumour"))


def dice(guess: np.ndarray, truth: np.ndarray) -> float | None:
    size = int(guess.sum() + truth.sum())
    return 2 * int((guess & truth).sum()) / size if size else None


def pooled_dice(drawn: list[Patient]) -> float:
    hits = sum(int((guess & truth).sum()) for guess, truth in drawn)
    return 2 * hits / sum(int(guess.sum() + truth.sum()) for guess, truth in drawn)


def patient_mean(drawn: list[Patient]) -> float:
    return float(np.mean([value for pair in drawn if (value := dice(*pair)) is not None]))


def patient_median(drawn: list[Patient]) -> float:
    return float(np.median([value for pair in drawn if (value := dice(*pair)) is not None]))


def slice_present(drawn: list[Patient]) -> float:
    slices = [pair for guess, truth in drawn for pair in zip(guess, truth, strict=True)]
    return float(np.mean([dice(guess, truth) for guess, truth in slices if truth.any()]))


LOOPS: dict[str, Callable[[list[Patient]], float]] = {
    "pooled_dice": pooled_dice,
    "patient_dice_mean": patient_mean,
    "patient_dice_median": patient_median,
    "slice_dice_present": slice_present,
}


@pytest.mark.parametrize("key", LOOPS)
def test_equals_a_loop_over_the_same_draws(key: str) -> None:
    made = patients(9, seed=3)
    values = []
    for weights in draws(len(made), 300, seed=5):
        drawn = [pair for pair, times in zip(made, weights, strict=True) for _ in range(int(times))]
        values.append(LOOPS[key](drawn))
    figure = summarise(table_of(made), seed=5, resamples=300).figure(key)
    assert figure.value == pytest.approx(LOOPS[key](made), abs=1e-12)
    assert (figure.low, figure.high) == pytest.approx(tuple(np.percentile(values, [2.5, 97.5])), abs=1e-12)


def test_agrees_with_draws_of_another_generator() -> None:
    made = patients(30, seed=8)
    scores = [value for pair in made if (value := dice(*pair)) is not None]
    other = random.Random(1)
    means = [np.mean(other.choices(scores, k=len(scores))) for _ in range(4000)]
    figure = summarise(table_of(made), seed=0).figure("patient_dice_mean")
    # 2,000 and 4,000 draws place a percentile to about a twentieth of the interval.
    slack = 0.06 * float(np.ptp(np.percentile(means, [2.5, 97.5])))
    assert (figure.low, figure.high) == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])), abs=slack)


def test_interval_of_a_mean_has_the_width_of_the_normal_one() -> None:
    values = np.random.default_rng(2).normal(0.7, 0.1, 400)
    _, low, high = estimate(over_patients(values, "mean"), draws(400, 2000, seed=0))
    assert low is not None
    assert high is not None
    half = 1.96 * values.std() / np.sqrt(400)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)


def test_draws_are_with_replacement_and_as_many_as_patients() -> None:
    weights = draws(12, 500, seed=1)
    assert weights.shape == (500, 12)
    assert (weights.sum(axis=1) == 12).all()
    assert weights.max() > 2
    assert weights.mean(axis=0) == pytest.approx(np.ones(12), abs=0.2)


def test_same_seed_same_interval() -> None:
    table = table_of(patients(8, seed=4))
    assert summarise(table, seed=1) == summarise(table, seed=1)
    first, second = (summarise(table, seed=seed).figure("patient_dice_mean") for seed in (1, 2))
    assert first.value == second.value
    assert (first.low, first.high) != (second.low, second.high)


def test_equal_patients_have_an_interval_of_no_width() -> None:
    figure = summarise(table_of([patients(1, seed=6)[0]] * 5)).figure("pooled_dice")
    assert figure.low == pytest.approx(figure.value)
    assert figure.high == pytest.approx(figure.value)


def test_resamples_without_a_defined_patient_are_left_out() -> None:
    # Two of 40 patients have a value: about one resample in eight draws neither.
    values = np.full(40, np.nan)
    values[[3, 9]] = 0.2, 0.8
    interval = estimate(over_patients(values, "mean"), draws(40, 2000, seed=0))
    assert interval == pytest.approx((0.5, 0.2, 0.8))
    values[9] = np.nan
    assert estimate(over_patients(values, "mean"), draws(40, 2000, seed=0)) == (0.2, None, None)


def test_weighted_median_equals_the_median_of_repeats() -> None:
    rng = np.random.default_rng(0)
    values, weights = rng.random(11), rng.integers(0, 3, (50, 11)).astype(np.float64)
    weights[0] = 0
    medians = weighted_median(values, weights)
    assert np.isnan(medians[0])
    expected = [np.median(np.repeat(values, row.astype(int))) for row in weights[1:]]
    np.testing.assert_allclose(medians[1:], expected, rtol=1e-14)
    assert np.isnan(weighted_median(np.empty(0), np.empty((3, 0)))).all()
