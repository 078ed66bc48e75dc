"""A zip of slices: unpacked under names of our own, and never to more than is allowed."""

from __future__ import annotations

import contextlib
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from segkit.imaging.naming import is_output_name, natural_key
from segkit.serving.config import Limits
from segkit.serving.errors import RequestError

_STEP = 2**18
_LOCATOR = 20  # bytes of the zip64 locator, in front of the end record
_ENTRY = 512  # bytes of an entry of the directory, generously
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others unpack without a bound on each step
_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")


def is_zip(path: Path) -> bool:
    """Whether the file begins like a zip."""
    with path.open("rb") as file:
        return file.read(4) in _MAGIC


def unpacked_bytes(path: Path, limits: Limits) -> int:
    """What the scans of a zip claim to unpack to; `unpack` takes no more of each. Raises as `unpack`."""
    _check_directory(path, limits)
    with _opened(path) as archive:
        return sum(member.file_size for member in _members(archive, limits))


def unpack(path: Path, folder: Path, limits: Limits) -> list[str]:
    """Unpack the scans of a zip to `folder`, and give the names they had, in the order of their new names.

    The new names are numbers with the old suffix where that is a plain one, in the natural order of the old
    ones. Folders inside, hidden files, masks and overlays are left out. No name leads out of `folder`.

    Raises:
        RequestError: 400 damaged or encrypted, 413 too many files or too many bytes, 415 nothing in it.
    """
    _check_directory(path, limits)
    with _opened(path) as archive:
        members = _members(archive, limits)
        left = limits.body_bytes
        for index, member in enumerate(members):
            left -= _extract(archive, member, folder / _new_name(index, member.filename), left, limits)
    return [PurePosixPath(member.filename).name for member in members]


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, LookupError, RuntimeError) as error:
        raise RequestError(400, f"the zip file cannot be unpacked ({_why(error)})") from error


def _check_directory(path: Path, limits: Limits) -> None:
    """Refuse a directory of very many entries before it is parsed, which takes a second for each 100,000."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 2**16 - 22 - _LOCATOR))
        tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < 22:
        raise RequestError(400, "the zip file is damaged: it has no directory")
    (length,) = struct.unpack("<I", tail[at + 12 : at + 16])
    zip64 = at >= _LOCATOR and tail[at - _LOCATOR : at].startswith(b"PK\x06\x07")
    if zip64 or length > 2 * limits.max_slices * _ENTRY:
        raise RequestError(413, f"the zip file has more files than {limits.max_slices} slices explain")


def _members(archive: zipfile.ZipFile, limits: Limits) -> list[zipfile.ZipInfo]:
    members = [info for info in archive.infolist() if not info.is_dir() and _is_scan(info.filename)]
    if not members:
        raise RequestError(415, "the zip file holds no scan")
    if len(members) > limits.max_slices:
        raise RequestError(413, f"the zip file has more than {limits.max_slices} slices")
    if sum(info.file_size for info in members) > limits.body_bytes:
        raise _too_large(limits)
    return sorted(members, key=lambda info: natural_key(Path(info.filename)))


def _is_scan(name: str) -> bool:
    path = PurePosixPath(name.replace("\\", "/"))
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
    return not hidden and not is_output_name(Path(path.name))


def _new_name(index: int, name: str) -> str:
    suffixes = "".join(PurePosixPath(name).suffixes[-2:]).lower()
    known = (".nii.gz", ".nii", ".tiff", ".tif", ".png", ".dcm", ".hdr", ".img")
    return f"{index:05d}" + next((suffix for suffix in known if suffixes.endswith(suffix)), "")


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, left: int, limits: Limits) -> int:
    """Unpack one file, counting what really comes, whatever its header says."""
    if member.flag_bits & 1:
        raise RequestError(400, "the zip file is encrypted")
    if member.compress_type not in _METHODS:
        raise RequestError(400, "the zip file is compressed by another method than deflate")
    count = 0
    with archive.open(member) as source, target.open("xb") as sink:
        while piece := source.read(_STEP):
            count += len(piece)
            if count > left:
                raise _too_large(limits)
            sink.write(piece)
    return count


def _too_large(limits: Limits) -> RequestError:
    return RequestError(413, f"the zip file unpacks to more than {limits.max_body_mb:g} MB")


def _why(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:100]
