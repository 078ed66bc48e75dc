"""The conventions under which papers and notebooks report overlap, each under its own name.

A convention is a score, what it is computed over (all pixels at once, each patient, each slice) and how
the scores are brought together. A score takes confusion counts `[N, K, K]` (rows reference, columns
prediction) and gives float64 `[N]`; NaN stands for "undefined" in here, and leaves this package as None.

Per class, with n_rp the pixels of reference class r predicted as p:
    true positives   TP = n_kk
    reference        R  = sum over p of n_kp
    predicted        P  = sum over r of n_rk
    IoU  = TP / (R + P - TP)     Jaccard, New Phytologist 11 (1912)
    Dice = 2 TP / (R + P)        Dice, Ecology 26 (1945)
"Foreground" is every class but class 0; with several of them a foreground score is the mean over classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
Score = Callable[[NDArray[np.generic]], Scores]


def ratio(numerator: NDArray[np.generic], denominator: NDArray[np.generic]) -> Scores:
    """`numerator / denominator` elementwise, NaN where the denominator is 0."""
    below = np.asarray(denominator, dtype=np.float64)
    out = np.full(below.shape, np.nan)
    np.divide(numerator, below, out=out, where=below != 0)
    return out


def mean_defined(values: Scores) -> Scores:
    """Mean over the last axis of the values that are not NaN; NaN where there is none."""
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0.0).sum(axis=-1), defined.sum(axis=-1))


def class_iou(counts: NDArray[np.generic]) -> Scores:
    """IoU of each class, `[N, K]`: TP / (R + P - TP). NaN for a class that neither mask has."""
    hits, reference, predicted = _hits_and_sizes(counts)
    return ratio(hits, reference + predicted - hits)


def class_dice(counts: NDArray[np.generic]) -> Scores:
    """Dice of each class, `[N, K]`: 2 TP / (R + P). NaN for a class that neither mask has."""
    hits, reference, predicted = _hits_and_sizes(counts)
    return ratio(2 * hits, reference + predicted)


def mean_iou(counts: NDArray[np.generic]) -> Scores:
    """Mean IoU over all classes, background included, that either mask has: 1/K' sum_k IoU_k.

    Source: "mean IU" in Long, Shelhamer, Darrell, Fully convolutional networks, CVPR 2015, section 5.
    """
    return mean_defined(class_iou(counts))


def foreground_iou(counts: NDArray[np.generic]) -> Scores:
    """Mean IoU over the foreground classes that either mask has: 0 where only one mask has any, undefined
    where both are empty.

    Source: IoU as in the module's heading; the rule for empty masks follows Maier-Hein, Reinke et al.,
    Metrics reloaded, Nature Methods 21 (2024): a ratio 0/0 is not a number to average.
    """
    return mean_defined(class_iou(counts)[..., 1:])


def foreground_dice(counts: NDArray[np.generic]) -> Scores:
    """Mean Dice over the foreground classes that either mask has; empty masks as in `foreground_iou`.

    Source: on a patient's volume, the figure of Buda, Saha, Mazurowski, Computers in Biology and Medicine 109
    (2019), for the LGG set, and of the BraTS challenge.
    """
    return mean_defined(class_dice(counts)[..., 1:])


def foreground_iou_where_present(counts: NDArray[np.generic]) -> Scores:
    """Mean IoU over the foreground classes that the reference has; undefined where it has none.

    Source: MONAI's MeanIoU(ignore_empty=True). False positives where the reference is empty do not count.
    """
    return _foreground_where_present(class_iou(counts), counts)


def foreground_dice_where_present(counts: NDArray[np.generic]) -> Scores:
    """Mean Dice over the foreground classes that the reference has; undefined where it has none.

    Source: MONAI's DiceMetric(ignore_empty=True).
    """
    return _foreground_where_present(class_dice(counts), counts)


def foreground_iou_empty_is_one(counts: NDArray[np.generic]) -> Scores:
    """Mean IoU over all foreground classes, a class that neither mask has counting as 1.

    Source: MONAI's MeanIoU(ignore_empty=False); the limit of (TP + e) / (R + P - TP + e) for small e.
    """
    return _foreground_empty_is_one(class_iou(counts))


def foreground_dice_empty_is_one(counts: NDArray[np.generic]) -> Scores:
    """Mean Dice over all foreground classes, a class that neither mask has counting as 1.

    Source: MONAI's DiceMetric(ignore_empty=False); the limit of (2 TP + e) / (R + P + e) for small e.
    """
    return _foreground_empty_is_one(class_dice(counts))


def mean_iou_empty_is_one(counts: NDArray[np.generic]) -> Scores:
    """Mean IoU over all classes, background included, a class that neither mask has counting as 1.

    Source: the smoothed IoU that notebooks average: (TP + e) / (R + P - TP + e) per class, for small e.
    """
    iou = class_iou(counts)
    return _undefined_without_pixels(np.where(np.isnan(iou), 1.0, iou).mean(axis=-1), iou)


def _hits_and_sizes(counts: NDArray[np.generic]) -> tuple[Scores, Scores, Scores]:
    exact = np.asarray(counts, dtype=np.float64)  # whole numbers stay exact up to 2**53 pixels
    return np.diagonal(exact, axis1=-2, axis2=-1), exact.sum(axis=-1), exact.sum(axis=-2)


def _foreground_where_present(values: Scores, counts: NDArray[np.generic]) -> Scores:
    reference = _hits_and_sizes(counts)[1]
    return mean_defined(np.where(reference > 0, values, np.nan)[..., 1:])


def _foreground_empty_is_one(values: Scores) -> Scores:
    foreground = values[..., 1:]
    return _undefined_without_pixels(np.where(np.isnan(foreground), 1.0, foreground).mean(axis=-1), values)


def _undefined_without_pixels(score: Scores, values: Scores) -> Scores:
    return np.where(np.isnan(values).all(axis=-1), np.nan, score)


@dataclass(frozen=True)
class Convention:
    """One way to bring a test set down to one number."""

    key: str
    label: str  # {foreground}: the one foreground class's name, or "foreground" where there are several
    over: Literal["pixels", "patients", "slices"]
    score: Score
    meaning: str  # one sentence
    reduce: Literal["mean", "median"] = "mean"
    largest: bool = False  # from the table of masks cut down to their largest component


_EMPTY = "a patient counts as 0 where only one of the two masks is empty and is left out where both are"

CONVENTIONS: tuple[Convention, ...] = (
    Convention(
        "pooled_miou",
        "mIoU, pooled",
        "pixels",
        mean_iou,
        "All pixels of all patients are counted together, then the IoU is averaged over the classes with the "
        "background, whose IoU is near 1 whenever the target is small.",
    ),
    Convention(
        "pooled_iou",
        "IoU of {foreground}, pooled",
        "pixels",
        foreground_iou,
        "All pixels of all patients are counted together, without the background, so that large targets decide.",
    ),
    Convention(
        "pooled_dice",
        "Dice of {foreground}, pooled",
        "pixels",
        foreground_dice,
        "The pooled IoU's counts as Dice, which for one class equals 2 IoU / (1 + IoU), never less.",
    ),
    Convention(
        "patient_dice_mean",
        "Dice of {foreground}, mean over patients",
        "patients",
        foreground_dice,
        f"One Dice from each patient's whole volume, each patient weighing the same; {_EMPTY}.",
    ),
    Convention(
        "patient_dice_median",
        "Dice of {foreground}, median over patients",
        "patients",
        foreground_dice,
        "The median of the same per-patient Dice, which a few failed patients do not move.",
        reduce="median",
    ),
    Convention(
        "patient_dice_largest_mean",
        "Dice of {foreground}, largest component, mean over patients",
        "patients",
        foreground_dice,
        "The mean per-patient Dice once only the largest connected component of each prediction is kept.",
        largest=True,
    ),
    Convention(
        "patient_dice_largest_median",
        "Dice of {foreground}, largest component, median over patients",
        "patients",
        foreground_dice,
        "The median per-patient Dice once only the largest connected component of each prediction is kept.",
        reduce="median",
        largest=True,
    ),
    Convention(
        "patient_iou_mean",
        "IoU of {foreground}, mean over patients",
        "patients",
        foreground_iou,
        f"One IoU from each patient's whole volume, each patient weighing the same; {_EMPTY}.",
    ),
    Convention(
        "patient_miou_mean",
        "mIoU, mean over patients",
        "patients",
        mean_iou,
        "For each patient's whole volume the IoU is averaged over the classes with the background, then over patients.",
    ),
    Convention(
        "slice_iou_present",
        "IoU of {foreground}, slices that have it",
        "slices",
        foreground_iou_where_present,
        "The mean over the slices whose reference holds the target; false alarms on the others go unseen.",
    ),
    Convention(
        "slice_dice_present",
        "Dice of {foreground}, slices that have it",
        "slices",
        foreground_dice_where_present,
        "The mean Dice over the slices whose reference holds the target; false alarms elsewhere go unseen.",
    ),
    Convention(
        "slice_iou_empty_one",
        "IoU of {foreground}, empty slices as 1",
        "slices",
        foreground_iou_empty_is_one,
        "The mean over all slices, an empty slice counting as 1 if the prediction is empty too, else 0, so "
        "that every slice without the target that is left alone lifts the figure.",
    ),
    Convention(
        "slice_dice_empty_one",
        "Dice of {foreground}, empty slices as 1",
        "slices",
        foreground_dice_empty_is_one,
        "The mean Dice over all slices, an empty slice counting as 1 if the prediction is empty too, else 0.",
    ),
    Convention(
        "slice_miou",
        "mIoU, mean over slices",
        "slices",
        mean_iou_empty_is_one,
        "For each slice the IoU is averaged over the classes with the background, a class that neither "
        "mask has counting as 1, then over slices: the smoothed mIoU of many notebooks, which the background "
        "and the empty slices lift.",
    ),
)


def foreground_name(classes: tuple[str, ...]) -> str:
    """What to call the foreground in a label: its class's name where there is one class."""
    return classes[1] if len(classes) == 2 else "foreground"
