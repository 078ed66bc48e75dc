"""An evaluation's summary as JSON, as Markdown and as a short table for the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from segkit.metrics import Figure, PatientRow, Summary

NONE = "–"  # stands for "undefined", which is neither 0 nor NaN


def to_json(summary: Summary, context: Mapping[str, Any]) -> dict[str, Any]:
    """The summary as JSON values: figures by key, per-class figures, per-patient rows; null where undefined.

    `context` says what was evaluated (model, data, split and its hash, ...) and is stored as it is.
    """
    return {
        "context": dict(context),
        "bootstrap": {
            "interval": 0.95,
            "over": "patients",
            "resamples": summary.resamples,
            "seed": summary.seed,
        },
        "figures": {figure.key: _figure_json(figure) for figure in summary.figures},
        "classes": [
            {
                "name": entry.name,
                "reference_pixels": entry.reference_pixels,
                "predicted_pixels": entry.predicted_pixels,
                "figures": {figure.key: _figure_json(figure) for figure in entry.figures},
            }
            for entry in summary.classes
        ],
        "patients": [{**asdict(row), "confusion": [list(line) for line in row.confusion]} for row in summary.patients],
    }


def to_markdown(summary: Summary, context: Mapping[str, Any]) -> str:
    """A Markdown document: the figures, the classes, the patients from worst to best, the conventions."""
    parts = ["# Evaluation", _context_lines(context), _figure_table(summary)]
    if len(summary.classes) > 2:
        parts += ["## Classes", _class_table(summary)]
    parts += ["## Patients, worst first", _patient_table(summary)]
    parts += ["## Why one model has several mIoUs", why_several(summary)]
    return "\n\n".join(part for part in parts if part) + "\n"


def to_text(summary: Summary, context: Mapping[str, Any]) -> str:
    """The figures as aligned lines for a terminal, and the three patients that came out worst."""
    rows = [(figure.label, _value(figure), _interval(figure), figure.over) for figure in summary.figures]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [f"{key}: {value}" for key, value in context.items()]
    lines += [
        f"{label:<{widths[0]}}  {value:>{widths[1]}}  {interval:<{widths[2]}}  {over}"
        for label, value, interval, over in rows
    ]
    lines.append(f"[95 % interval over patients, {summary.resamples} bootstrap resamples]")
    worst = [row for row in worst_first(summary.patients) if row.dice is not None][:3]
    if worst:
        lines.append("lowest Dice: " + ", ".join(f"{row.patient} {_number(row.dice)}" for row in worst))
    return "\n".join(lines) + "\n"


def worst_first(rows: Iterable[PatientRow]) -> list[PatientRow]:
    """Patients by ascending Dice; those without one (both masks empty) at the end."""
    return sorted(rows, key=lambda row: (math.inf if row.dice is None else row.dice, row.patient))


def why_several(summary: Summary) -> str:
    """One paragraph: the same masks give a different IoU under each convention, and what each one does."""
    said = [
        f"**{_cell(figure.label)}** ({_value(figure)}): {figure.meaning}"
        for figure in summary.figures
        if "iou" in figure.key
    ]
    return (
        "Papers and notebooks call all of the following “mIoU”, and for the same predictions they differ, "
        "because they do not agree on what is averaged (classes with or without the background, patients, "
        "slices) nor on what an empty mask counts. Compare only figures of one convention. " + " ".join(said)
    )


def _figure_json(figure: Figure) -> dict[str, Any]:
    return {name: value for name, value in asdict(figure).items() if name != "key"}


def _context_lines(context: Mapping[str, Any]) -> str:
    return "\n".join(f"- {_cell(key)}: {_cell(value)}" for key, value in context.items())


def _figure_table(summary: Summary) -> str:
    rows = [[_cell(figure.label), _value(figure), _interval(figure), figure.over] for figure in summary.figures]
    note = (
        f"\n\nIntervals: percentile bootstrap over patients, {summary.resamples} resamples, "
        f"seed {summary.seed}. {NONE}: undefined."
    )
    return _table(["figure", "value", "95 % interval", "over"], "lrll", rows) + note


def _class_table(summary: Summary) -> str:
    figures = {figure.key: figure.label for entry in summary.classes for figure in entry.figures}
    rows = []
    for entry in summary.classes:
        own = {figure.key: f"{_value(figure)} {_interval(figure)}".strip() for figure in entry.figures}
        sizes = [str(entry.reference_pixels), str(entry.predicted_pixels)]
        rows.append([_cell(entry.name), *sizes, *(own.get(key, NONE) for key in figures)])
    head = ["class", "reference pixels", "predicted pixels", *figures.values()]
    return _table(head, "lrr" + "l" * len(figures), rows)


def _patient_table(summary: Summary) -> str:
    """One line a patient; a column that no patient has a value for is left out."""
    rows = worst_first(summary.patients)
    columns: list[tuple[str, list[str]]] = [
        ("patient", [_cell(row.patient) for row in rows]),
        ("slices", [str(row.slices) for row in rows]),
        ("with reference", [str(row.slices_with_reference) for row in rows]),
        ("reference pixels", [str(row.reference_pixels) for row in rows]),
        ("predicted pixels", [str(row.predicted_pixels) for row in rows]),
        ("Dice", [_number(row.dice) for row in rows]),
        ("IoU", [_number(row.iou) for row in rows]),
    ]
    if any(row.dice_largest is not None for row in rows):
        columns.append(("Dice, largest component", [_number(row.dice_largest) for row in rows]))
    if any(row.hd95 is not None for row in rows):
        columns.append(("HD95 mm", [_number(row.hd95, 2) for row in rows]))
    head = [name for name, _ in columns]
    return _table(head, "l" + "r" * (len(head) - 1), list(zip(*(cells for _, cells in columns), strict=True)))


def _table(head: Sequence[str], align: str, rows: Sequence[Sequence[str]]) -> str:
    rule = ["---:" if side == "r" else "---" for side in align]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, rule, *rows])


def _value(figure: Figure) -> str:
    if figure.unit and figure.value is not None:
        return f"{figure.value:.2f} {figure.unit}"
    return _number(figure.value)


def _interval(figure: Figure) -> str:
    if figure.low is None or figure.high is None:
        return ""
    digits = 2 if figure.unit else 4
    return f"[{figure.low:.{digits}f}, {figure.high:.{digits}f}]"


def _number(value: float | None, digits: int = 4) -> str:
    return NONE if value is None else f"{value:.{digits}f}"


def _cell(value: object) -> str:
    """Text that cannot break a table or start markup: patients and classes are named by others."""
    text = " ".join(str(value).split())
    for mark in "\\`*|<>[]":
        text = text.replace(mark, "\\" + mark)
    return text
