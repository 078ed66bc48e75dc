"""What is in a dataset: patients, sizes, tumour share, copied channels, unusable files."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from segkit.data.cases import Case, CaseSet, Problem
from segkit.data.headers import is_volume
from segkit.data.read import read_slice
from segkit.errors import FileError
from segkit.resources import granted_cpus


@dataclass(frozen=True, slots=True)
class ClassReport:
    """How much of one class there is. Shares are of all pixels or slices that could be read."""

    name: str
    value: int  # in the mask files
    pixels: int
    pixel_share: float
    slices: int
    slice_share: float
    patients: int
    smallest: int  # pixels in the slice that has fewest of it, of those that have any; 0 if none has


@dataclass(frozen=True, slots=True)
class Report:
    """What `inspect` found. All counts are of usable files."""

    root: str
    layout: str
    licence: str
    patients: int
    slices: int
    institutions: dict[str, int]  # patients of each; empty where the layout names none
    sizes: dict[str, int]  # slices of each "width x height", the most frequent first
    spacings: dict[str, int]  # patients of each "slice x row x column" in mm; empty where unknown
    channels: tuple[str, ...]
    copies: dict[str, tuple[str, ...]]  # "FLAIR = post": the patients in whom these channels are equal
    empty_channels: dict[str, tuple[str, ...]]  # channels that are constant throughout: the patients
    foreground_slices: int
    foreground_share: float  # of all pixels
    classes: tuple[ClassReport, ...]
    problems: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return asdict(self)

    def as_text(self) -> str:
        """As lines for a terminal."""
        return "\n".join(_lines(self))


@dataclass(frozen=True, slots=True)
class _CaseFacts:
    pixels: npt.NDArray[np.int64]  # [slices, classes]
    copies: tuple[tuple[int, ...], ...]  # groups of channels equal in every slice
    constant: tuple[int, ...]  # channels
    problems: tuple[Problem, ...]


def inspect(case_set: CaseSet, workers: int | None = None) -> Report:
    """Decode every slice once, with `workers` threads (default: the CPUs that were granted), and count."""
    with ThreadPoolExecutor(workers or granted_cpus()) as pool:
        facts = list(pool.map(lambda case: _look(case_set, case), case_set.cases))
    seen = [(case, fact) for case, fact in zip(case_set.cases, facts, strict=True) if len(fact.pixels)]
    counts = [fact.pixels for _, fact in seen] or [np.zeros((0, len(case_set.classes)), np.int64)]
    pixels = np.concatenate(counts)
    total = max(1, int(pixels.sum()))
    foreground = pixels[:, 1:].sum(axis=1)
    problems = {problem for fact in facts for problem in fact.problems} | set(case_set.problems)
    return Report(
        root=str(case_set.root),
        layout=case_set.layout,
        licence=case_set.licence,
        patients=len(seen),
        slices=len(pixels),
        institutions=_count(case.institution for case, _ in seen if case.institution),
        sizes=_sizes(seen),
        spacings=_count(_spacing(case) for case, _ in seen if case.spacing),
        channels=case_set.channels,
        copies=_copies(case_set, seen),
        empty_channels=_constant(case_set, seen),
        foreground_slices=int((foreground > 0).sum()),
        foreground_share=int(foreground.sum()) / total,
        classes=tuple(_class(case_set, index, counts, total) for index in range(len(case_set.classes))),
        problems=tuple(sorted(str(problem) for problem in problems)),
    )


def _look(case_set: CaseSet, case: Case) -> _CaseFacts:
    channels = len(case_set.channels)
    equal = set(itertools.combinations(range(channels), 2))
    low, high = np.full(channels, 255), np.zeros(channels, np.int64)
    pixels, problems = [], []
    for ref in case.slices:
        try:
            image, mask = read_slice(case_set, ref)
        except FileError as error:
            problems.append(Problem(error.path, error.reason))
            if is_volume(ref.mask):
                break  # its other slices are in the same file
            continue
        pixels.append([np.count_nonzero(mask == index) for index in range(len(case_set.classes))])
        planes = np.ascontiguousarray(image.transpose(2, 0, 1)).reshape(channels, -1)  # 5 times as fast below
        equal = {(a, b) for a, b in equal if np.array_equal(planes[a], planes[b])}
        low = np.minimum(low, planes.min(axis=1))
        high = np.maximum(high, planes.max(axis=1))
    table = np.array(pixels, np.int64).reshape(-1, len(case_set.classes))
    constant = tuple(int(c) for c in np.flatnonzero(low == high)) if pixels else ()
    return _CaseFacts(table, _groups(equal, channels) if pixels else (), constant, tuple(problems))


def _groups(equal: Iterable[tuple[int, int]], channels: int) -> tuple[tuple[int, ...], ...]:
    """Channels that are equal to each other, as groups of two and more: three pairs may be one group."""
    pairs = set(equal)
    groups = []
    left = set(range(channels))
    for first in range(channels):
        group = (
            first,
            *(other for other in range(first + 1, channels) if (first, other) in pairs and other in left),
        )
        if first in left and len(group) > 1:
            groups.append(group)
            left -= set(group)
    return tuple(groups)


def _copies(case_set: CaseSet, seen: list[tuple[Case, _CaseFacts]]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for case, fact in seen:
        for group in fact.copies:
            found.setdefault(" = ".join(case_set.channels[c] for c in group), []).append(case.patient)
    return {key: tuple(patients) for key, patients in sorted(found.items())}


def _constant(case_set: CaseSet, seen: list[tuple[Case, _CaseFacts]]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for case, fact in seen:
        for channel in fact.constant:
            found.setdefault(case_set.channels[channel], []).append(case.patient)
    return {key: tuple(patients) for key, patients in sorted(found.items())}


def _class(case_set: CaseSet, index: int, counts: list[npt.NDArray[np.int64]], total: int) -> ClassReport:
    column = np.concatenate([case[:, index] for case in counts])
    present = column[column > 0]
    return ClassReport(
        name=case_set.classes[index],
        value=case_set.mask_values[index],
        pixels=int(column.sum()),
        pixel_share=int(column.sum()) / total,
        slices=len(present),
        slice_share=len(present) / max(1, len(column)),
        patients=sum(bool(case[:, index].any()) for case in counts),
        smallest=int(present.min()) if len(present) else 0,
    )


def _sizes(seen: list[tuple[Case, _CaseFacts]]) -> dict[str, int]:
    sizes: Counter[str] = Counter()
    for case, fact in seen:
        sizes[f"{case.shape[1]} x {case.shape[0]}"] += len(fact.pixels)
    return dict(sizes.most_common())


def _spacing(case: Case) -> str:
    return " x ".join(f"{step:.3g}" for step in case.spacing or ())


def _count(words: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(words).items(), key=lambda item: (-item[1], item[0])))


def _lines(report: Report) -> list[str]:
    lines = [f"{report.root}", _row("layout", report.layout)]
    if report.licence:
        lines.append(_row("licence", report.licence))
    by_institution = ", ".join(f"{name} {count}" for name, count in report.institutions.items())
    lines.append(_row("patients", f"{report.patients:,}" + (f" ({by_institution})" if by_institution else "")))
    lines.append(_row("slices", f"{report.slices:,}: {_few(report.sizes)}"))
    lines.append(
        _row("spacing", _few(report.spacings) + " mm (slice x row x column)" if report.spacings else "unknown")
    )
    lines.append(_row("channels", ", ".join(report.channels)))
    lines += [_row("copies", f"{key} in {_patients(who)}") for key, who in report.copies.items()]
    lines += [_row("empty", f"{key} in {_patients(who)}") for key, who in report.empty_channels.items()]
    share = report.foreground_slices / max(1, report.slices)
    lines.append(
        _row(
            "foreground",
            f"{report.foreground_slices:,} slices ({share:.1%}), {report.foreground_share:.2%} of all pixels",
        )
    )
    lines += [
        "",
        f"  {'class':<20} {'value':>5} {'pixels':>9} {'slices':>15} {'patients':>8} {'smallest':>9}",
    ]
    for item in report.classes:
        slices = f"{item.slices:,} ({item.slice_share:.1%})"
        lines.append(
            f"  {item.name:<20} {item.value:>5} {item.pixel_share:>9.3%} {slices:>15} {item.patients:>8,} "
            f"{item.smallest:>6,} px"
        )
    lines += ["", f"{len(report.problems)} problems" if report.problems else "no problems"]
    return lines + [f"  {problem}" for problem in report.problems]


def _row(key: str, value: str) -> str:
    return f"  {key:<11} {value}"


def _few(counts: dict[str, int], most: int = 4) -> str:
    shown = ", ".join(f"{key} ({count:,})" for key, count in list(counts.items())[:most])
    return shown + (f" and {len(counts) - most} more" if len(counts) > most else "")


def _patients(names: tuple[str, ...], most: int = 3) -> str:
    shown = ", ".join(names[:most]) + (", ..." if len(names) > most else "")
    return f"{len(names)} patient{'s' * (len(names) != 1)} ({shown})"
