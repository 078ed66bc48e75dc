"""File names: stems, suffixes, the order of slices, and which files are outputs."""

from __future__ import annotations

import re
from pathlib import Path

from segkit.errors import FileError

IMAGE_SUFFIXES = (".tif", ".tiff", ".png")
NIFTI_SUFFIXES = (".nii.gz", ".hdr.gz", ".img.gz", ".nii", ".hdr", ".img")  # the longer ones first
OUTPUT_SUFFIXES = (*IMAGE_SUFFIXES, ".nii.gz", ".nii")


def stem_of(path: Path) -> str:
    """The name without its suffix; `.nii.gz` is one suffix."""
    for suffix in (*NIFTI_SUFFIXES, *IMAGE_SUFFIXES, ".dcm"):
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem


def is_output_name(path: Path) -> bool:
    """Whether the name is that of a mask or a picture of one: such files are never taken for scans."""
    return stem_of(path).lower().endswith(("_mask", "_overlay", "_planes"))


def natural_key(path: Path) -> list[tuple[int, str]]:
    """Sorting key that puts slice 2 before slice 10."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def folder_files(folder: Path) -> list[Path]:
    """All files of a folder in natural order, without masks, overlays and hidden files. Raises FileError."""
    try:
        found = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    except OSError as error:
        raise FileError(folder, f"cannot be listed ({error.strerror})") from error
    return sorted((path for path in found if not is_output_name(path)), key=natural_key)


def slice_files(folder: Path) -> list[Path]:
    """The TIFF and PNG files of a folder in natural order, without masks and hidden files."""
    return [path for path in folder_files(folder) if path.suffix.lower() in IMAGE_SUFFIXES]
