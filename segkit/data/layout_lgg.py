"""The LGG layout: `<patient>/<patient>_<k>.tif` with its `<patient>_<k>_mask.tif`.

As published by M. Buda, A. Saha and M. A. Mazurowski (Computers in Biology and Medicine 109, 2019) under
the name kaggle_3m. Files beside the patients' folders (data.csv, a README) are not part of it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from segkit.data.cases import CaseSet, Problem
from segkit.data.layout_files import Entry, build_cases

CHANNELS = ("pre", "FLAIR", "post")
CLASSES = ("background", "tumor")
MASK_VALUES = (0, 255)
_SLICE = re.compile(r"(?P<patient>.+)_(?P<number>\d+)(?P<mask>_mask)?\.tiff?", re.IGNORECASE)
_INSTITUTION = re.compile(r"[A-Za-z]+_([A-Za-z0-9]{2})_")
_TCGA_LICENCE = "CC BY-NC-SA 4.0"


def find_lgg(root: Path) -> CaseSet | None:
    """Read `root` as an LGG set; None if no folder in it holds a `<folder>_<k>_mask.tif`."""
    folders = _patient_folders(root)
    if not folders:
        return None
    entries: list[Entry] = []
    problems: list[Problem] = []
    for folder, names in folders:
        found, odd = _entries(folder, names)
        entries += found
        problems += odd
    cases, _, odd = build_cases(entries, bands=len(CHANNELS))
    licence = _TCGA_LICENCE if any(case.patient.startswith("TCGA_") for case in cases) else ""
    return CaseSet(root, "lgg", cases, CLASSES, CHANNELS, MASK_VALUES, (*problems, *odd), licence)


def institution_of(patient: str) -> str:
    """The second token of names like TCGA_DU_5849_19950405; "" for other names."""
    match = _INSTITUTION.match(patient)
    return match.group(1).upper() if match else ""


def _patient_folders(root: Path) -> list[tuple[Path, list[str]]]:
    folders = []
    for name in _names_in(root):
        files = _names_in(root / name)
        if any(_is_mask_of(name, file) for file in files):
            folders.append((root / name, files))
    return folders


def _names_in(folder: Path) -> list[str]:
    """Sorted names of what is not hidden; none for a file, or a folder that may not be listed."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith("."))
    except OSError:
        return []


def _is_mask_of(patient: str, name: str) -> bool:
    if "_mask.tif" not in name.lower():  # spares the regular expression on large foreign folders
        return False
    match = _SLICE.fullmatch(name)
    return match is not None and match["patient"] == patient and match["mask"] is not None


def _entries(folder: Path, names: list[str]) -> tuple[list[Entry], list[Problem]]:
    images: dict[int, Path] = {}
    masks: dict[int, Path] = {}
    problems = []
    for name in names:
        match = _SLICE.fullmatch(name)
        if match is None:
            continue
        path, number = folder / name, int(match["number"])
        into = masks if match["mask"] else images
        if match["patient"] != folder.name:
            problems.append(Problem(path, f"is not named after its folder {folder.name}"))
        elif number in into:
            problems.append(Problem(path, f"is slice {number} a second time, after {into[number].name}"))
        else:
            into[number] = path
    problems += [Problem(images[k], "has no mask beside it") for k in sorted(images.keys() - masks.keys())]
    problems += [Problem(masks[k], "has no image beside it") for k in sorted(masks.keys() - images.keys())]
    institution = institution_of(folder.name)
    both = sorted(images.keys() & masks.keys())
    return [Entry(folder.name, institution, (images[k],), masks[k]) for k in both], problems
