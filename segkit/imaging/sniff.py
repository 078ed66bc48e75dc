"""What a file is, by its first bytes; the suffix decides only where the bytes cannot."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

from segkit.errors import FileError
from segkit.imaging.naming import NIFTI_SUFFIXES

HEAD_BYTES = 544  # reaches past a NIfTI-2 header
READABLE = "TIFF, PNG, NIfTI and DICOM are read"
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNG = b"\x89PNG\r\n\x1a\n"
_GZIP = b"\x1f\x8b"
_ARCHIVES = (b"\xfd7zXZ\0", b"7z\xbc\xaf\x27\x1c", b"Rar!", b"BZh", b"\x28\xb5\x2f\xfd")
ZIP_MARKS = (b"PK\x03\x04", b"PK\x05\x06")


def kind_of(path: Path) -> str:
    """ "tiff", "png", "nifti", "dicom" or "zip", by content.

    Raises:
        FileError: the file cannot be read or is something else.
    """
    head = head_of(path)
    kind = _kind_of_head(head)
    if head.startswith(_GZIP):
        head = unzipped_head(path)
        kind = _kind_of_head(head)
        if kind in ("tiff", "png", "zip"):
            raise FileError(path, f"is a {kind.upper()} file inside gzip", "unpack it with gunzip")
    name = path.name.lower()
    if kind == "" and name.endswith(NIFTI_SUFFIXES):
        return "nifti"  # a pair's .img has no mark of its own; what is wrong, the NIfTI reader says better
    if kind == "" and looks_like_dicom(head, name):
        return "dicom"
    if head.startswith(_ARCHIVES) or head[257:262] == b"ustar":
        raise FileError(path, "is an archive other than zip", "unpack it")
    if kind == "":
        what = "is empty" if not head else "is not an image that can be read here"
        raise FileError(path, what, READABLE)
    return kind


def looks_like_dicom(head: bytes, name: str) -> bool:
    """Whether a file that begins so is DICOM: by its mark, by its first element, or else by its name."""
    if head[128:132] == b"DICM":
        return True
    # Without a preamble: the first element is of group 2 or 8, in either byte order, and its length is small.
    if len(head) >= 8 and (head[:2] in (b"\2\0", b"\x08\0") or head[:2] in (b"\0\2", b"\0\x08")):
        order = "<" if head[1] == 0 else ">"
        _, element = struct.unpack(order + "HH", head[:4])
        explicit = head[4:6].isalpha() and head[4:6].isupper()
        length = struct.unpack(order + ("H" if explicit else "I"), head[6:8] if explicit else head[4:8])[0]
        if element < 0x0100 and length < 256:
            return True
    return bool(head) and name.lower().endswith(DICOM_SUFFIXES)


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
    if head[:4] in ZIP_MARKS:
        return "zip"
    return "nifti" if _is_nifti(head) else ""


def _is_nifti(head: bytes) -> bool:
    """NIfTI-1, NIfTI-2, and Analyze 7.5, which has the size but no mark."""
    if len(head) < 348:
        return False
    sizes = struct.unpack("<i", head[:4]) + struct.unpack(">i", head[:4])
    return 348 in sizes or (540 in sizes and head[4:6] in (b"n+", b"ni"))
