"""What `segkit data inspect` says of DICOM: the series of each study, and which would be chosen and why."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segkit.errors import SegkitError
from segkit.imaging.dicom.choose import Candidate, Choice, choose, same_grid
from segkit.imaging.dicom.reading import value
from segkit.imaging.dicom.redact import redacted
from segkit.imaging.dicom.sequences import ROLE_NAMES, classify, is_derived, plane_of
from segkit.imaging.dicom.volume import open_studies

_WANTED = ("pre", "flair", "post")
_HEADINGS = ("series", "slices", "size", "spacing in mm", "plane", "description", "taken for", "because")


@dataclass(frozen=True)
class StudyReport:
    """The series of one study, in order of their numbers, and what is to say about the choice."""

    series: list[dict[str, Any]]
    notes: list[str]


@dataclass(frozen=True)
class DicomReport:
    """What a heap of files holds."""

    path: Path
    studies: list[StudyReport]
    notes: list[str]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        studies = [vars(study) for study in self.studies]
        return {"path": str(self.path), "layout": "dicom", "studies": studies, "notes": self.notes}

    def as_text(self) -> str:
        """A table for each study."""
        lines = [
            str(self.path),
            f"  layout      dicom, {len(self.studies)} {'study' if len(self.studies) == 1 else 'studies'}",
        ]
        for study in self.studies:
            lines += ["", *_table(study.series), *(f"  note: {note}" for note in study.notes)]
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


def inspect_dicom(path: Path) -> DicomReport:
    """Look at every file's header; nothing is unpacked.

    Raises:
        FileError: the path cannot be read, or holds no image.
    """
    studies, notes = open_studies([path])
    reports = []
    for study in studies:
        try:
            choice = choose(study, {}, _WANTED)
            remarks = [*choice.notes, *_moved(choice)]
        except SegkitError as error:
            choice = Choice(candidates=[Candidate(stack, classify(stack)) for stack in study.stacks])
            remarks = [str(error)]
        reports.append(StudyReport([_row(candidate, choice) for candidate in choice.candidates], remarks))
    return DicomReport(path, reports, notes)


def _moved(choice: Choice) -> list[str]:
    """Which of the chosen series would be resampled."""
    flair = choice.roles["flair"]
    others = dict.fromkeys(stack.name for stack in choice.roles.values() if not same_grid(stack, flair))
    return [f"{name} lies on another grid than {flair.name}, onto which it would be resampled" for name in others]


def _row(candidate: Candidate, choice: Choice) -> dict[str, Any]:
    stack, first = candidate.stack, candidate.stack.first
    reasons = list(candidate.finding.reasons)
    if not candidate.role and id(stack) in choice.beaten:
        reasons.append(choice.beaten[id(stack)])
    description = str(value(first.header, "SeriesDescription", ""))
    spacing = None
    if stack.step is not None and first.pixel is not None:
        spacing = [round(float(step), 4) for step in (np.linalg.norm(stack.step), *first.pixel)]
    return {
        "number": stack.series_number,
        "part": [stack.part, stack.parts],
        "modality": str(value(first.header, "Modality", "")),
        "description": redacted(description, first.header),
        "size": [len(stack.frames), *first.shape],
        "spacing_mm": spacing,
        "plane": plane_of(stack),
        "derived": is_derived(stack),
        "role": candidate.role,
        "reasons": [redacted(reason, first.header) for reason in reasons],
        "problems": [*stack.notes, *([stack.fault] if stack.fault else [])],
    }


def _table(series: list[dict[str, Any]]) -> list[str]:
    rows: list[tuple[str, ...]] = [_HEADINGS]
    rows += [_cells(one) for one in series]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    for one, place in zip(reversed(series), range(len(rows), 1, -1), strict=True):
        lines[place:place] = [f"    {problem}" for problem in one["problems"]]
    return lines


def _cells(one: dict[str, Any]) -> tuple[str, ...]:
    slices, rows, columns = one["size"]
    part, parts = one["part"]
    number = "-" if one["number"] is None else str(one["number"])
    spacing = one["spacing_mm"]
    return (
        number + (f" ({part}/{parts})" if parts > 1 else ""),
        str(slices),
        f"{columns} x {rows}",
        " x ".join(f"{step:.3g}" for step in spacing) if spacing else "unknown",
        one["plane"] or "unknown",
        one["description"] or "-",
        ROLE_NAMES.get(one["role"], "-"),
        ", ".join(one["reasons"]) or "-",
    )
