"""What a file is, by its first bytes; the suffix decides only where the bytes cannot."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

from segkit.errors import FileError
from segkit.imaging.naming import NIFTI_SUFFIXES

HEAD_BYTES = 544  # reaches past a NIfTI-2 header
READABLE = "this version reads TIFF, PNG and NIfTI"

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNG = b"\x89PNG\r\n\x1a\n"
_GZIP = b"\x1f\x8b"


def kind_of(path: Path) -> str:
    """ "tiff", "png" or "nifti", by content.

    Raises:
        FileError: the file cannot be read or is something else; DICOM gets its own remedy.
    """
    head = head_of(path)
    if head.startswith(_GZIP):
        kind = _kind_of_head(unzipped_head(path))
        if kind in ("tiff", "png"):
            raise FileError(path, f"is a {kind.upper()} file inside gzip", "unpack it with gunzip")
    else:
        kind = _kind_of_head(head)
    name = path.name.lower()
    if kind == "dicom" or (kind == "" and name.endswith((".dcm", ".dicom", ".ima"))):
        raise FileError(path, "is DICOM", f"{READABLE}: convert the series, for example with dcm2niix")
    if kind == "" and name.endswith(NIFTI_SUFFIXES):
        return "nifti"  # a pair's .img has no mark of its own; what is wrong, the NIfTI reader says better
    if kind == "":
        what = "is empty" if not head else "is not an image that can be read here"
        raise FileError(path, what, READABLE)
    return kind


def head_of(path: Path) -> bytes:
    """The first bytes of the file as it lies on disk. Raises FileError."""
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError as error:
        raise unreadable(path, error) from error


def unzipped_head(path: Path) -> bytes:
    """The first bytes of what is inside a gzip file; fewer, perhaps none, where it is damaged."""
    try:
        with gzip.open(path) as file:
            return file.read(HEAD_BYTES)
    except (OSError, EOFError, zlib.error):
        return b""


def unreadable(path: Path, error: OSError) -> FileError:
    """The line for a file that is not there or may not be read."""
    return FileError(path, f"cannot be read ({error.strerror or error})")


def _kind_of_head(head: bytes) -> str:
    if head[128:132] == b"DICM":  # first, because its preamble may be that of a TIFF
        return "dicom"
    if head[:4] in _TIFF:
        return "tiff"
    if head.startswith(_PNG):
        return "png"
    return "nifti" if _is_nifti(head) else ""


def _is_nifti(head: bytes) -> bool:
    """NIfTI-1, NIfTI-2, and Analyze 7.5, which has the size but no mark."""
    if len(head) < 348:
        return False
    sizes = struct.unpack("<i", head[:4]) + struct.unpack(">i", head[:4])
    return 348 in sizes or (540 in sizes and head[4:6] in (b"n+", b"ni"))
