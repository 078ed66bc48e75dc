"""95 % bootstrap intervals over patients, vectorised over the resamples.

Every figure is written as a function of how often each patient was drawn, and needs only per-patient sums for
that: a resample is a row of weights, and 2,000 of them are one matrix product.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from segkit.metrics.confusion import ConfusionTable
from segkit.metrics.conventions import Score, Scores, ratio


@dataclass(frozen=True)
class Statistic:
    """A figure as a function of the draws: weights `[R, P]`, whole numbers as float64, give values `[R]`."""

    of: Callable[[Scores], Scores]
    contributing: NDArray[np.bool_]  # [P], the patients for which the figure is defined
    over: str  # what the figure is over, in words


def draws(patients: int, resamples: int, seed: int) -> Scores:
    """How often each patient is drawn in each resample, `[R, P]`: with replacement, each row summing to P."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(patients, np.full(patients, 1 / patients), size=resamples).astype(np.float64)


def estimate(statistic: Statistic, weights: Scores) -> tuple[float | None, float | None, float | None]:
    """Value, 2.5th and 97.5th percentile of the resampled values.

    Source: Efron, Tibshirani, An introduction to the bootstrap (1993), chapter 13, the percentile interval.
    Resamples in which the figure is undefined are left out. There is no interval where fewer than two
    patients contribute: one patient drawn again and again says nothing of how patients differ.
    """
    value = defined(statistic.of(np.ones((1, weights.shape[1])))[0])
    drawn = statistic.of(weights)
    drawn = drawn[~np.isnan(drawn)]
    if statistic.contributing.sum() < 2 or not drawn.size:
        return value, None, None
    low, high = np.percentile(drawn, [2.5, 97.5])
    return value, float(low), float(high)


def mean_interval(values: Scores) -> tuple[float, float]:
    """2.5th and 97.5th percentile of the mean of one value a patient, `[P]`, none NaN; of one patient that value."""
    low, high = np.quantile(draws(len(values), 2000, 0) @ values / len(values), (0.025, 0.975))
    return float(low), float(high)


def pooled(score: Score, table: ConfusionTable) -> Statistic:
    """The score of the drawn patients' summed counts."""

    def of(weights: Scores) -> Scores:
        return score(np.tensordot(weights, table.by_patient.astype(np.float64), axes=1))

    return Statistic(of, ~np.isnan(score(table.by_patient)), "all pixels")


def over_patients(values: Scores, reduce: Literal["mean", "median"]) -> Statistic:
    """Mean or median of one value a patient, `[P]`, over the patients where it is not NaN."""
    known = ~np.isnan(values)
    kept = values[known]

    def of(weights: Scores) -> Scores:
        chosen = weights[:, known]
        return ratio(chosen @ kept, chosen.sum(axis=1)) if reduce == "mean" else weighted_median(kept, chosen)

    return Statistic(of, known, f"{len(kept)} of {len(values)} patients")


def over_slices(values: Scores, table: ConfusionTable) -> Statistic:
    """Mean of one value a slice, `[slices]`, where it is not NaN; a drawn patient brings all its slices."""
    known = ~np.isnan(values)
    size = len(table.patients)
    sums = np.bincount(table.patient[known], weights=values[known], minlength=size)
    slices = np.bincount(table.patient[known], minlength=size).astype(np.float64)

    def of(weights: Scores) -> Scores:
        return ratio(weights @ sums, weights @ slices)

    return Statistic(of, slices > 0, f"{known.sum()} of {len(values)} slices")


def weighted_median(values: Scores, weights: Scores) -> Scores:
    """Median of `values` `[P]`, each repeated as its whole-numbered weight says, for each row of `[R, P]`."""
    if not len(values):
        return np.full(len(weights), np.nan)
    order = np.argsort(values)
    ordered, reached = values[order], np.cumsum(weights[:, order], axis=1)
    count = reached[:, -1]
    lower = (reached > np.floor((count - 1) / 2)[:, None]).argmax(axis=1)
    upper = (reached > np.floor(count / 2)[:, None]).argmax(axis=1)
    return np.where(count > 0, (ordered[lower] + ordered[upper]) / 2, np.nan)


def defined(value: float) -> float | None:
    """The value, or None for NaN."""
    return None if np.isnan(value) else float(value)
