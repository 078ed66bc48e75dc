"""Pairs of folders: `images/` and `masks/` with equal stems (PNG, TIFF; images may be JPEG as well).

Patients: where several stems share what stands before a trailing number (`ann_1`, `ann_2`), that is the
patient and the number orders the slices; any other file is a patient of its own. If one prefix is common to
all files (`img_001` ... `img_500`) it names no patient, and each file is a patient of its own.

Classes: the values present in the masks. 0 and 255, or 0 and 1, are background and foreground; otherwise the
sorted values (0 always among them) are background, class 1, class 2 ... A `classes.txt` beside the two
folders gives the names, one a line in the order of the values.
"""

from __future__ import annotations

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from segkit.data.cases import Case, CaseSet, Problem
from segkit.data.layout_files import Entry, build_cases
from segkit.data.read import read_raw_mask
from segkit.errors import FileError
from segkit.resources import granted_cpus

_MASK_SUFFIXES = (".png", ".tif", ".tiff")
_IMAGE_SUFFIXES = (*_MASK_SUFFIXES, ".jpg", ".jpeg")
_NUMBERED = re.compile(r"(.*?)[ _.-]*(\d+)")
_MOST_VALUES = 64  # more in one mask: it was smoothed, or is no mask


def find_pairs(root: Path) -> CaseSet | None:
    """Read `root` as a pair of folders; None if it has not both."""
    if not ((root / "images").is_dir() and (root / "masks").is_dir()):
        return None
    images, problems = _by_stem(root / "images", _IMAGE_SUFFIXES)
    masks, more = _by_stem(root / "masks", _MASK_SUFFIXES)
    problems += more
    problems += [Problem(images[s], "has no mask in masks/") for s in sorted(images.keys() - masks.keys())]
    problems += [Problem(masks[s], "has no image in images/") for s in sorted(masks.keys() - images.keys())]
    stems = sorted(images.keys() & masks.keys())
    patients = group_stems(stems)
    ordered = sorted(stems, key=lambda stem: (patients[stem], stem))
    cases, bands, more = build_cases(Entry(patients[s][0], "", (images[s],), masks[s]) for s in ordered)
    problems += more
    cases, values, more = _drop_odd_masks(cases)
    problems += more
    classes, mask_values = _classes(root / "classes.txt", values)
    return CaseSet(root, "pairs", cases, classes, channel_names(bands), mask_values, tuple(problems))


def group_stems(stems: list[str]) -> dict[str, tuple[str, int]]:
    """Patient and slice number of each stem, after the rule at the head of this file."""
    matches = {stem: _NUMBERED.fullmatch(stem) for stem in stems}
    prefixes = {stem: match[1] for stem, match in matches.items() if match and match[1]}
    count = Counter(prefixes.values())
    whole = len(stems) == len(prefixes) and len(count) == 1
    result = {}
    for stem in stems:
        match = matches[stem]
        shared = match is not None and not whole and count[prefixes.get(stem, "")] > 1
        result[stem] = (match[1], int(match[2])) if match is not None and shared else (stem, 0)
    return result


def channel_names(bands: int) -> tuple[str, ...]:
    """Names for the channels of image files that do not name them."""
    known: dict[int, tuple[str, ...]] = {1: ("image",), 3: ("red", "green", "blue")}
    return known.get(bands) or tuple(f"channel {i}" for i in range(bands))


def _by_stem(folder: Path, suffixes: tuple[str, ...]) -> tuple[dict[str, Path], list[Problem]]:
    files: dict[str, Path] = {}
    problems = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.suffix.lower() not in suffixes or path.is_dir():
            continue
        if path.stem in files:
            problems.append(Problem(path, f"has the same stem as {files[path.stem].name}"))
        else:
            files[path.stem] = path
    return files, problems


def _drop_odd_masks(cases: tuple[Case, ...]) -> tuple[tuple[Case, ...], tuple[int, ...], list[Problem]]:
    """Read all masks: the values present, and the cases without the masks that cannot be used."""
    paths = [ref.mask for case in cases for ref in case.slices]
    with ThreadPoolExecutor(granted_cpus()) as pool:
        results = dict(zip(paths, pool.map(_values, paths), strict=True))
    problems = [result for result in results.values() if isinstance(result, Problem)]
    bad = {problem.path for problem in problems}
    kept = []
    for case in cases:
        slices = tuple(ref for ref in case.slices if ref.mask not in bad)
        if slices:
            kept.append(Case(case.patient, case.institution, slices, case.shape, case.spacing))
    values = {value for result in results.values() if isinstance(result, frozenset) for value in result}
    return tuple(kept), tuple(sorted(values)), problems


def _values(path: Path) -> frozenset[int] | Problem:
    try:
        values = np.unique(read_raw_mask(path)).tolist()
    except FileError as error:
        return Problem(error.path, error.reason)
    if len(values) > _MOST_VALUES:
        return Problem(path, f"has {len(values)} different values, so it is no mask, or was smoothed")
    return frozenset(values)


def _classes(names_file: Path, values: tuple[int, ...]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    values = tuple(sorted({0, *values}))
    if values == (0,):
        values = (0, 255)
    if len(values) > 255:
        raise FileError(
            names_file.parent / "masks", f"has {len(values)} different values; at most 255 classes are known"
        )
    if not names_file.is_file():
        if values in ((0, 255), (0, 1)):
            return ("background", "foreground"), values
        return ("background", *(f"class {i}" for i in range(1, len(values)))), values
    names = tuple(line.strip() for line in names_file.read_text(encoding="utf-8").splitlines() if line.strip())
    if len(names) < 2:
        raise FileError(names_file, "names fewer than two classes", "write one name a line, background first")
    if len(names) == len(values):
        return names, values
    if len(names) > len(values) and values[-1] < len(names):
        return names, tuple(range(len(names)))
    raise FileError(names_file, f"names {len(names)} classes, but the masks hold the values {list(values)[:20]}")
