"""Find out which dataset lies in a directory, by looking."""

from __future__ import annotations

import os
from pathlib import Path

from segkit.data.cases import CaseSet
from segkit.data.layout_decathlon import find_decathlon
from segkit.data.layout_lgg import find_lgg
from segkit.data.layout_pairs import find_pairs
from segkit.errors import FileError

KNOWN_LAYOUTS = (
    "LGG (<patient>/<patient>_<k>.tif with <patient>_<k>_mask.tif), "
    "Medical Segmentation Decathlon or nnU-Net raw (dataset.json with imagesTr and labelsTr), "
    "or images/ and masks/ with equal file names"
)
_DEPTH = 2  # archives often wrap the dataset: lgg-mri-segmentation/kaggle_3m
_MOST_FOLDERS = 200  # a home directory is not searched to its end


class SeveralDatasetsError(FileError):
    """A directory with more than one dataset in it."""

    def __init__(self, root: Path, found: list[Path]) -> None:
        self.found = found
        names = ", ".join(str(path.relative_to(root)) for path in found[:5])
        super().__init__(root, f"holds several datasets ({names})", "name one of them")


def find_cases(root: Path) -> CaseSet:
    """Read the dataset in `root` or up to two folders below it, whichever layout it has.

    Only names and headers are read (for pairs also the masks, whose values are the classes). Files that
    cannot be used become `CaseSet.problems` and are left out; so are a volume's or a patient's slices.

    Raises:
        FileError: no such directory, no dataset in it, several at the same depth, or one without
            a single usable slice.
    """
    root = root.absolute()
    if not root.is_dir():
        raise FileError(root, "is no directory" if root.exists() else "does not exist", "name the dataset's folder")
    level = [root]
    for _ in range(_DEPTH + 1):
        found = [case_set for folder in level if (case_set := _find_here(folder)) is not None]
        if len(found) > 1:
            raise SeveralDatasetsError(root, [case_set.root for case_set in found])
        if found:
            return _checked(found[0])
        level = [child for folder in level for child in _folders_in(folder)][:_MOST_FOLDERS]
    raise FileError(root, "holds no dataset of a known layout", f"known are {KNOWN_LAYOUTS}")


def _find_here(folder: Path) -> CaseSet | None:
    try:
        return find_decathlon(folder) or find_pairs(folder) or find_lgg(folder)
    except PermissionError:
        return None


def _checked(case_set: CaseSet) -> CaseSet:
    if not case_set.cases:
        first = f" ({len(case_set.problems)} problems; the first: {case_set.problems[0]})" if case_set.problems else ""
        raise FileError(case_set.root, f"has the {case_set.layout} layout, but no usable slice{first}")
    return case_set


def _folders_in(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry) for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except OSError:
        return []
