"""The mark that every file of ours bears, so that nothing else is ever overwritten."""

from __future__ import annotations

import json
import re
from pathlib import Path

MARK = "segkit"
SOFTWARE = 305  # TIFF tag
_COPY = re.compile(r"\d+-[a-z0-9]+(/\d{4,}\.dcm)?")  # what `dicom.copies` writes


def is_ours(path: Path) -> bool:
    """Whether segkit wrote this mask, picture, table or DICOM object, or the whole of this folder of images."""
    if path.is_dir():
        return all(_COPY.fullmatch(inner.relative_to(path).as_posix()) for inner in path.rglob("*"))
    name = path.name.lower()
    try:
        if name.endswith((".nii", ".nii.gz")):
            return _nifti_name(path) == MARK
        if name.endswith((".tif", ".tiff", ".png")):
            return _software(path) == MARK
        if name.endswith(".json"):
            return MARK in json.loads(path.read_text(encoding="utf-8"))
        if name.endswith(".dcm"):
            from pydicom import dcmread

            return str(dcmread(path, stop_before_pixels=True).get("Manufacturer", "")) == MARK
    except Exception:  # whatever a foreign or damaged file makes a reader raise, it is not ours
        return False
    return False


def _nifti_name(path: Path) -> str:
    import gzip

    with gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb") as file:
        head = file.read(544)
    at = 508 if head[4:6] == b"n+" else 328  # intent_name of NIfTI-2 and NIfTI-1
    return head[at : at + 16].split(b"\0")[0].decode("ascii")


def _software(path: Path) -> str:
    from PIL import Image

    with Image.open(path) as image:
        tags = getattr(image, "tag_v2", None)
        return str(tags.get(SOFTWARE, "") if tags is not None else image.info.get("Software", ""))
