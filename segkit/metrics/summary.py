"""From a confusion table to figures with bootstrap intervals, per-patient rows and per-class figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segkit.metrics.bootstrap import Statistic, defined, draws, estimate, over_patients, over_slices, pooled
from segkit.metrics.confusion import ConfusionTable
from segkit.metrics.conventions import (
    CONVENTIONS,
    Convention,
    Scores,
    class_dice,
    class_iou,
    foreground_dice,
    foreground_iou,
    foreground_name,
    mean_defined,
)

RESAMPLES = 2000
Distances = Mapping[str, Sequence[float | None]]  # patient -> HD95 in mm of each foreground class


@dataclass(frozen=True)
class Figure:
    """One number with its 95 % interval over patients. None where it is undefined or cannot be estimated."""

    key: str
    label: str
    value: float | None
    low: float | None
    high: float | None
    meaning: str
    over: str = ""  # what it was computed over: "all pixels", "11 of 12 patients", "310 of 1373 slices"
    unit: str = ""  # "mm", or "" for a share of 1


@dataclass(frozen=True)
class PatientRow:
    """One patient's whole volume. Foreground figures are means over the foreground classes present."""

    patient: str
    slices: int
    slices_with_reference: int  # slices whose reference has foreground
    reference_pixels: int  # foreground
    predicted_pixels: int  # foreground
    dice: float | None
    iou: float | None
    dice_largest: float | None
    hd95: float | None  # mm
    confusion: tuple[tuple[int, ...], ...]  # [K][K], rows reference, columns prediction


@dataclass(frozen=True)
class ClassFigures:
    """One class on its own: pooled IoU and Dice, mean patient Dice, and HD95 where known."""

    name: str
    reference_pixels: int
    predicted_pixels: int
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Summary:
    """Everything an evaluation says, ready to be printed or stored."""

    figures: list[Figure]
    patients: list[PatientRow]  # in the table's order
    classes: list[ClassFigures]
    resamples: int
    seed: int

    def figure(self, key: str) -> Figure:
        """The figure of that key. Raises KeyError."""
        for figure in self.figures:
            if figure.key == key:
                return figure
        raise KeyError(key)

    def values(self) -> dict[str, float | None]:
        """Each figure's value by its key: what a model file or a comparison keeps."""
        return {figure.key: figure.value for figure in self.figures}


def summarise(
    table: ConfusionTable,
    largest: ConfusionTable | None = None,
    hd95: Distances | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Summary:
    """Derive every figure under every convention.

    Intervals are the 2.5th and 97.5th percentile of `resamples` draws of as many patients as there are, with
    replacement (Efron, Tibshirani, An introduction to the bootstrap, 1993, chapter 13). All figures share the
    draws, so that they can be compared. A patient's slices stay together: they are not independent.

    Args:
        table: counts of the masks as predicted.
        largest: counts of the same slices with only the largest component kept; without it, no such figures.
        hd95: millimetres of each foreground class (`class_hd95`) by patient; a patient may be absent.
        seed: of the draws; the same seed gives the same intervals.

    Raises:
        ValueError: `largest` is of other patients or classes than `table`, or `hd95` of other classes.
    """
    if largest is not None and (largest.patients, largest.classes) != (table.patients, table.classes):
        raise ValueError("the table of largest components is of other patients or classes")
    weights = draws(len(table.patients), resamples, seed)
    distances = None if hd95 is None else _distance_array(table, hd95)
    figures = [
        _figure(
            _statistic(convention, source),
            weights,
            convention.key,
            _label(convention, table),
            convention.meaning,
        )
        for convention in CONVENTIONS
        if (source := largest if convention.largest else table) is not None
    ]
    if distances is not None:
        figures += _distance_figures(distances, weights)
    classes = [_class_figures(table, index, distances, weights) for index in range(len(table.classes))]
    return Summary(figures, _rows(table, largest, distances), classes, resamples, seed)


def _figure(statistic: Statistic, weights: Scores, key: str, label: str, meaning: str, unit: str = "") -> Figure:
    value, low, high = estimate(statistic, weights)
    return Figure(key, label, value, low, high, meaning, statistic.over, unit)


def _statistic(convention: Convention, table: ConfusionTable) -> Statistic:
    if convention.over == "pixels":
        return pooled(convention.score, table)
    if convention.over == "patients":
        return over_patients(convention.score(table.by_patient), convention.reduce)
    return over_slices(convention.score(table.counts), table)


def _label(convention: Convention, table: ConfusionTable) -> str:
    return convention.label.format(foreground=foreground_name(table.classes))


def _distance_array(table: ConfusionTable, hd95: Distances) -> Scores:
    """`[patients, K - 1]` in mm, NaN where there is none."""
    absent = [None] * (len(table.classes) - 1)
    rows = [list(hd95.get(patient, absent)) for patient in table.patients]
    if any(len(row) != len(absent) for row in rows):
        raise ValueError(f"hd95 needs {len(absent)} distances a patient, one for each foreground class")
    return np.array(rows, dtype=np.float64)  # None becomes NaN


def _distance_figures(distances: Scores, weights: Scores) -> list[Figure]:
    values = mean_defined(distances)
    rule = "pooled both ways; patients where either mask is empty have none and are left out"
    mean = f"The mean over patients of the 95th percentile of the distances between the two surfaces, {rule}."
    median = f"The median over patients of the 95th percentile of the distances between the two surfaces, {rule}."
    return [
        _figure(over_patients(values, "mean"), weights, "hd95_mean", "HD95, mean over patients", mean, "mm"),
        _figure(
            over_patients(values, "median"),
            weights,
            "hd95_median",
            "HD95, median over patients",
            median,
            "mm",
        ),
    ]


def _class_figures(table: ConfusionTable, index: int, distances: Scores | None, weights: Scores) -> ClassFigures:
    def iou(counts: NDArray[np.generic]) -> Scores:
        return class_iou(counts)[..., index]

    def dice(counts: NDArray[np.generic]) -> Scores:
        return class_dice(counts)[..., index]

    statistics = [
        ("pooled_iou", "IoU, pooled", pooled(iou, table), ""),
        ("pooled_dice", "Dice, pooled", pooled(dice, table), ""),
        ("patient_dice_mean", "Dice, mean over patients", over_patients(dice(table.by_patient), "mean"), ""),
    ]
    if distances is not None and index > 0:
        surface = over_patients(distances[:, index - 1], "mean")
        statistics.append(("hd95_mean", "HD95, mean over patients", surface, "mm"))
    total = table.by_patient.sum(axis=0)
    return ClassFigures(
        name=table.classes[index],
        reference_pixels=int(total[index].sum()),
        predicted_pixels=int(total[:, index].sum()),
        figures=tuple(
            _figure(statistic, weights, key, label, f"{label}, of this class alone.", unit)
            for key, label, statistic, unit in statistics
        ),
    )


def _rows(table: ConfusionTable, largest: ConfusionTable | None, distances: Scores | None) -> list[PatientRow]:
    counts = table.by_patient
    nothing = np.full(len(table.patients), np.nan)
    cut = nothing if largest is None else foreground_dice(largest.by_patient)
    far = nothing if distances is None else mean_defined(distances)
    dice, iou = foreground_dice(counts), foreground_iou(counts)
    size = len(table.patients)
    slices = np.bincount(table.patient, minlength=size)
    marked = np.bincount(table.patient, weights=table.counts[:, 1:].sum(axis=(1, 2)) > 0, minlength=size)
    return [
        PatientRow(
            patient=patient,
            slices=int(slices[at]),
            slices_with_reference=int(marked[at]),
            reference_pixels=int(counts[at, 1:].sum()),
            predicted_pixels=int(counts[at, :, 1:].sum()),
            dice=defined(dice[at]),
            iou=defined(iou[at]),
            dice_largest=defined(cut[at]),
            hd95=defined(far[at]),
            confusion=tuple(tuple(int(cell) for cell in row) for row in counts[at]),
        )
        for at, patient in enumerate(table.patients)
    ]
