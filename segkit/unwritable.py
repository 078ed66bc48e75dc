"""What keeps a place from being written, in one line: which place, why, and what to do about it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from segkit.container import bind, runtime
from segkit.errors import FileError, SegkitError

FULL = (errno.ENOSPC, errno.EDQUOT)
FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)
_LITTLE = 1 << 20  # bytes: a place with less is as good as full


def unwritable(target: Path, error: OSError, remedy: str = "choose a folder you can write to") -> FileError:
    """The error to raise where writing `target` failed with `error`.

    Args:
        target: the file or folder that was to be written.
        error: what the system said.
        remedy: what the user can do, e.g. by which flag another place is chosen.
    """
    place = nearest_folder(target)
    return FileError(target, f"cannot be written ({_why(place, error)})", "; ".join([remedy, *_also(place, error)]))


def line_for(error: OSError) -> SegkitError | None:
    """One line for an error of the surroundings that nobody expected; None where it is something else: a bug."""
    if error.errno == errno.ENOENT and "usable temporary directory" in (error.strerror or ""):
        return SegkitError(
            "no folder for temporary files can be written; set TMPDIR to one that can"
            + "".join(f", or add: {more}" for more in [bind(Path("/tmp"))] if more)
        )
    if error.errno not in (*FULL, *FORBIDDEN):
        return None
    if isinstance(error.filename, str) and error.filename:
        path = Path(error.filename)
        return unwritable(path, error) if error.errno != errno.EACCES or not path.is_file() else _unreadable(path)
    if error.errno in FULL:
        return SegkitError(f"{_full_place()}: {_reason(error)}; free some space, or choose other folders")
    return None


def is_full(place: Path) -> bool:
    """Whether less than a megabyte is free where `place` is or would be."""
    try:
        found = os.statvfs(nearest_folder(place))
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < _LITTLE


def nearest_folder(target: Path) -> Path:
    """The deepest folder that exists on the way to `target`, absolute."""
    path = target.absolute()
    for parent in [path, *path.parents]:
        try:
            if parent.is_dir():
                return parent
        except OSError:  # a folder on the way that may not be entered
            continue
    return Path("/")


def _why(place: Path, error: OSError) -> str:
    if error.errno == errno.EROFS:
        what = "the container's image" if runtime() else "the file system"
        return f"{place} is read-only: {what}"
    if error.errno in (errno.EACCES, errno.EPERM) and hasattr(os, "geteuid"):
        owner = _owner(place)
        if owner is not None and owner != os.geteuid():
            return f"{place} belongs to user {owner}, this is user {os.geteuid()}"
    if error.errno in FULL:
        return f"{place}: {_reason(error)}"
    return error.strerror or str(error)


def _reason(error: OSError) -> str:
    return "the quota is used up" if error.errno == errno.EDQUOT else "no space is left"


def _also(place: Path, error: OSError) -> list[str]:
    """In a container: the bind that would help."""
    more = bind(place) if error.errno in FORBIDDEN else ""
    return [f"or bind one there: {more}"] if more else []


def _unreadable(path: Path) -> SegkitError:
    return FileError(path, "may not be read by this user", "ask its owner for access")


def _owner(place: Path) -> int | None:
    try:
        return place.stat().st_uid
    except OSError:
        return None


def _full_place() -> str:
    """The first of the places that segkit writes to that is full; all of them where none is."""
    places = [Path.cwd(), Path(os.environ.get("SEGKIT_CACHE", ".")), Path(os.environ.get("TMPDIR", "/tmp"))]
    found = next((place for place in [*places, Path("/dev/shm")] if is_full(place)), None)
    return str(found.absolute()) if found else "a disk that is written to"
