"""What the layouts with a file a slice have in common: pair, check and group the files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from segkit.data.cases import Case, Problem, SliceRef
from segkit.data.headers import read_image_header
from segkit.errors import FileError


@dataclass(frozen=True, slots=True)
class Entry:
    """One slice before it is checked."""

    patient: str
    institution: str
    images: tuple[Path, ...]
    mask: Path


@dataclass(frozen=True, slots=True)
class _Checked:
    entry: Entry
    shape: tuple[int, int]
    bands: int


def build_cases(entries: Iterable[Entry], bands: int | None = None) -> tuple[tuple[Case, ...], int, list[Problem]]:
    """Check the headers of all entries and group them into cases, keeping their order within a patient.

    Args:
        entries: in anatomical order within each patient.
        bands: channels that each slice must have; None takes what most have.

    Returns:
        Cases sorted by patient, the number of channels, and what was left out.
    """
    checked, problems = _check(entries)
    if bands is None:
        bands = Counter(item.bands for item in checked).most_common(1)[0][0] if checked else 1
    for item in checked:
        if item.bands != bands:
            reason = f"has {item.bands} channel{'s' * (item.bands != 1)}, not {bands}"
            problems.append(Problem(item.entry.images[0], reason))
    usable = sorted((item for item in checked if item.bands == bands), key=lambda item: item.entry.patient)
    cases = []
    for _, group in groupby(usable, key=lambda item: item.entry.patient):
        case, odd = _case(list(group))
        cases.append(case)
        problems += odd
    return tuple(cases), bands, problems


def _check(entries: Iterable[Entry]) -> tuple[list[_Checked], list[Problem]]:
    checked, problems = [], []
    for entry in entries:
        try:
            checked.append(_check_entry(entry))
        except FileError as error:
            problems.append(Problem(error.path, error.reason))
    return checked, problems


def _check_entry(entry: Entry) -> _Checked:
    headers = [read_image_header(path) for path in entry.images]
    mask = read_image_header(entry.mask)
    if mask.bands != 1 and not mask.palette:
        raise FileError(entry.mask, f"has {mask.bands} channels; a mask has one value a pixel")
    for path, header in zip((*entry.images[1:], entry.mask), (*headers[1:], mask), strict=True):
        if (header.height, header.width) != (headers[0].height, headers[0].width):
            raise FileError(
                path,
                f"is {header.width} x {header.height}, "
                f"but {entry.images[0].name} is {headers[0].width} x {headers[0].height}",
            )
    return _Checked(entry, (headers[0].height, headers[0].width), sum(header.bands for header in headers))


def _case(group: list[_Checked]) -> tuple[Case, list[Problem]]:
    shape = Counter(item.shape for item in group).most_common(1)[0][0]
    problems = [
        Problem(
            item.entry.images[0],
            f"is {item.shape[1]} x {item.shape[0]}, but others of the patient are {shape[1]} x {shape[0]}",
        )
        for item in group
        if item.shape != shape
    ]
    slices = tuple(SliceRef(item.entry.images, item.entry.mask, 0) for item in group if item.shape == shape)
    first = group[0].entry
    return Case(first.patient, first.institution, slices, shape, None), problems
