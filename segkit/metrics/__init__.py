"""Segmentation figures: confusion counts, named conventions, surface distance, bootstrap intervals."""

from __future__ import annotations

from segkit.metrics.confusion import ConfusionTable, confusion, slice_confusions
from segkit.metrics.conventions import CONVENTIONS, Convention
from segkit.metrics.summary import ClassFigures, Figure, PatientRow, Summary, summarise
from segkit.metrics.surface import class_hd95, hd95

__all__ = [
    "CONVENTIONS",
    "ClassFigures",
    "ConfusionTable",
    "Convention",
    "Figure",
    "PatientRow",
    "Summary",
    "class_hd95",
    "confusion",
    "hd95",
    "slice_confusions",
    "summarise",
]
