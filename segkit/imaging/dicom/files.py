"""Which files of a heap may be DICOM: folders in any nesting, zip archives, gzip, single files."""

from __future__ import annotations

import gzip
import io
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

from segkit.errors import FileError
from segkit.imaging.naming import natural_key
from segkit.imaging.scan import MAX_BYTES
from segkit.imaging.sniff import ZIP_MARKS, looks_like_dicom, unreadable

_MAX_FILES = 200_000  # in one study; more is a whole archive
_MAX_ARCHIVES = 200  # each is kept open
_MAX_UNPACKED = 16 * MAX_BYTES  # of one archive
_HEAD = 1024


@dataclass(frozen=True)
class Member:
    """One file: on disk, or inside a zip archive.

    `origin` is the path as the user gave it. Errors name that one, because the names below it may be a patient's.
    `archive` is open and shared by its members: its directory is read once, not for each of some thousand slices.
    """

    path: Path
    inside: str = ""
    origin: Path = field(default=Path(), compare=False)
    archive: zipfile.ZipFile | None = field(default=None, compare=False, repr=False)

    def open(self) -> BinaryIO:
        """The file's bytes, unpacked.

        Raises:
            FileError: it cannot be read, is encrypted, or would unpack to more than is read at once.
        """
        try:
            if self.archive is not None:
                return _from_zip(self, self.archive)
            with self.path.open("rb") as file:
                packed = file.read(2) == b"\x1f\x8b"
            return _from_gzip(self) if packed else cast(BinaryIO, self.path.open("rb"))
        except OSError as error:
            if self.path == self.origin:
                raise unreadable(self.path, error) from error
            raise FileError(self.origin, f"holds a file that cannot be read ({error.strerror or 'damaged'})") from error
        except (EOFError, zlib.error, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
            raise FileError(self.origin, f"cannot be unpacked ({type(error).__name__})") from error

    def head(self) -> bytes:
        """The first bytes; empty where nothing can be read."""
        try:
            with self.open() as file:
                return file.read(_HEAD)
        except (FileError, OSError, EOFError, zlib.error):
            return b""


def find_members(paths: Iterable[Path]) -> list[Member]:
    """Every file of `paths`, folders and archives opened, in natural order. Hidden files are left out.

    Raises:
        FileError: a path that cannot be read, or more files than a study has.
    """
    found: dict[Member, None] = {}
    archives: set[Path] = set()
    for path in paths:
        for member in _members(path):
            found[member] = None
            if member.archive is not None:
                archives.add(member.path)
            if len(archives) > _MAX_ARCHIVES:
                raise FileError(path, f"holds more than {_MAX_ARCHIVES} zip archives", "unpack them")
            if len(found) > _MAX_FILES:
                raise FileError(path, f"holds more than {_MAX_FILES} files", "give the folder of one study")
    return list(found)


def holds_dicom(path: Path) -> bool:
    """Whether a file is DICOM, or a folder or an archive holds some. Stops at the first one."""
    try:
        return any(looks_like_dicom(member.head(), member.inside or member.path.name) for member in _members(path))
    except FileError:
        return False


def _members(path: Path) -> Iterator[Member]:
    if path.is_dir():
        for file in _walk(path, path):
            yield from _members_of_file(file, path)
    elif path.exists():
        yield from _members_of_file(path, path)
    else:
        raise FileError(path, "does not exist")


def _walk(folder: Path, origin: Path) -> Iterator[Path]:
    """Files below `folder`; links to folders are not followed, so that there are no circles."""
    try:
        with os.scandir(folder) as entries:
            visible = sorted((Path(entry.path) for entry in entries if not entry.name.startswith(".")), key=natural_key)
    except OSError as error:
        raise FileError(origin, f"is, or holds, a folder that cannot be listed ({error.strerror})") from error
    yield from (path for path in visible if path.is_file())
    for path in visible:
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path, origin)


def _members_of_file(path: Path, origin: Path) -> Iterator[Member]:
    try:
        with path.open("rb") as file:
            if not file.read(4).startswith(ZIP_MARKS):
                yield Member(path, origin=origin)
                return
        archive = zipfile.ZipFile(path)
        names = [info.filename for info in archive.infolist() if not info.is_dir()]
        size = sum(info.file_size for info in archive.infolist())
    except zipfile.BadZipFile as error:
        raise FileError(origin, "is, or holds, a damaged zip archive") from error
    except OSError as error:
        raise FileError(origin, f"is, or holds, a file that cannot be read ({error.strerror})") from error
    if size > _MAX_UNPACKED:
        raise FileError(origin, "unpacks to more than a study has", "give the folder of one study")
    for name in sorted(names, key=lambda name: natural_key(Path(name))):
        if not Path(name).name.startswith("."):
            yield Member(path, name, origin, archive)


def _from_zip(member: Member, archive: zipfile.ZipFile) -> BinaryIO:
    info = archive.getinfo(member.inside)
    if info.file_size > MAX_BYTES:
        raise FileError(member.origin, "holds a file that unpacks to more than is read at once")
    return io.BytesIO(archive.read(info))  # the directory's size is a bound: reading stops there


def _from_gzip(member: Member) -> BinaryIO:
    with gzip.open(member.path) as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise FileError(member.origin, "unpacks to more than is read at once")
    return io.BytesIO(content)
