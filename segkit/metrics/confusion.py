"""Confusion counts: the one table that every figure but the surface distance is derived from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]  # [..., K, K], rows the reference class, columns the predicted one
Mask = NDArray[Any]  # class indices as uint8, or bool


def confusion(prediction: Mask, reference: Mask, classes: int) -> Counts:
    """Count pixels by reference class (rows) and predicted class (columns).

    Args:
        prediction: uint8 or bool class indices, any shape.
        reference: the same shape.
        classes: K, number of classes with the background, 2 to 256.

    Returns:
        int64 `[K, K]`, its sum being the number of pixels.

    Raises:
        ValueError: the shapes differ, a mask is of another type, or holds an index of K or more.
    """
    counts: Counts = slice_confusions(np.asarray(prediction)[None], np.asarray(reference)[None], classes)[0]
    return counts


def slice_confusions(prediction: Mask, reference: Mask, classes: int) -> Counts:
    """`confusion` of each slice: masks `[S, ...]` give int64 `[S, K, K]`. Raises as `confusion` does."""
    predicted, expected = _indices(prediction, classes), _indices(reference, classes)
    if predicted.shape != expected.shape:
        raise ValueError(f"prediction {predicted.shape} and reference {expected.shape} differ in shape")
    # The smaller type is the faster one; it holds every cell's number up to 16 classes.
    width = np.uint8 if classes <= 16 else np.uint16
    counts = np.empty((len(expected), classes, classes), dtype=np.int64)
    # One slice at a time: bincount widens its input to 8 bytes a pixel, and a slice still fits the cache.
    for index in range(len(expected)):
        cell = expected[index].astype(width, copy=False) * width(classes) + predicted[index]
        counts[index] = np.bincount(cell.ravel(), minlength=classes**2).reshape(classes, classes)
    return counts


def _indices(mask: Mask, classes: int) -> NDArray[np.uint8]:
    if not 2 <= classes <= 256:
        raise ValueError(f"{classes} classes: 2 to 256 can be counted, the background among them")
    array = np.asarray(mask)
    if array.dtype == np.bool_:
        return array.astype(np.uint8)
    if array.dtype != np.uint8:
        raise ValueError(f"a mask of type {array.dtype} is not one of class indices (uint8)")
    # An index beyond K would be counted in another row's cell rather than fail.
    if array.size and array.max() >= classes:
        raise ValueError(f"a mask of {classes} classes holds the index {array.max()}")
    return array


@dataclass(frozen=True, eq=False)
class ConfusionTable:
    """The confusion counts of every slice of every patient.

    Raises:
        ValueError: the parts do not fit together, a patient is named twice, or there is no patient.
    """

    counts: Counts  # [slices, K, K]
    patient: NDArray[np.int64]  # [slices], index into `patients`
    patients: tuple[str, ...]
    classes: tuple[str, ...]  # background first

    def __post_init__(self) -> None:
        k = len(self.classes)
        if k < 2 or self.counts.ndim != 3 or self.counts.shape[1:] != (k, k):
            raise ValueError(f"counts {self.counts.shape} do not fit {k} classes (two at least)")
        if not self.patients or len(set(self.patients)) != len(self.patients):
            raise ValueError("a table needs patients, each named once")
        if self.patient.shape != self.counts.shape[:1]:
            raise ValueError(f"{self.counts.shape[0]} slices, but {self.patient.shape} patient indices")
        if self.patient.size and not 0 <= self.patient.min() <= self.patient.max() < len(self.patients):
            raise ValueError("a slice belongs to a patient that is not named")

    @classmethod
    def from_patients(
        cls, patients: Iterable[tuple[str, Counts]], classes: tuple[str, ...] | list[str]
    ) -> ConfusionTable:
        """Gather `(patient, slice_confusions(...))` pairs; the iterable may yield one patient at a time."""
        gathered = list(patients)
        if not gathered:
            raise ValueError("a table needs patients, each named once")
        lengths = [len(counts) for _, counts in gathered]
        return cls(
            counts=np.concatenate([counts for _, counts in gathered]),
            patient=np.repeat(np.arange(len(gathered)), lengths).astype(np.int64),
            patients=tuple(name for name, _ in gathered),
            classes=tuple(classes),
        )

    @cached_property
    def by_patient(self) -> Counts:
        """Counts of each patient's whole volume, int64 `[patients, K, K]`."""
        sums = np.zeros((len(self.patients), *self.counts.shape[1:]), dtype=np.int64)
        np.add.at(sums, self.patient, self.counts)
        return sums
