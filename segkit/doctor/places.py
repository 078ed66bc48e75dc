"""The folders that segkit writes to: whether they can be written, how much is free, and on what they lie."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from segkit.data.shared_memory import megabytes
from segkit.doctor.finding import Finding, failure, ok, warning
from segkit.resources import cache_folder
from segkit.runs import RUNS
from segkit.unwritable import nearest_folder, unwritable

_LITTLE = 1_000_000_000  # bytes: checkpoints and the packed dataset take some hundred MB
_SOCKET = 107  # bytes that the path of a Unix socket may have
_NAME = 45  # of them for the folder and the socket that a loader worker makes in the temporary folder


def check_places() -> list[Finding]:
    """Runs, cache and temporary files. Each is tried with a file that goes away at once."""
    return [
        _place("place.runs", "runs and results", RUNS, "cd to a folder you can write to, or choose --run and -o"),
        _place("place.cache", "cache", cache_folder(RUNS), "set SEGKIT_CACHE to a folder you can write to"),
        *_temporary(),
    ]


def _temporary() -> list[Finding]:
    try:
        folder = Path(tempfile.gettempdir())
    except OSError:
        remedy = "set TMPDIR to a folder you can write to"
        meaning = "serve, bench infer and loader workers cannot keep temporary files."
        return [failure("place.temporary", "no temporary folder can be written", meaning, remedy)]
    found = [_place("place.temporary", "temporary files", folder, "set TMPDIR to a folder you can write to")]
    if len(str(folder)) > _SOCKET - _NAME:
        fact = f"the path of the temporary folder has {len(str(folder))} characters"
        meaning = f"Loader workers cannot open their sockets there: more than {_SOCKET - _NAME} are too many."
        found.append(failure("place.temporary", fact, meaning, "set TMPDIR to a shorter path"))
    return found


def _place(check: str, what: str, path: Path, remedy: str) -> Finding:
    folder = nearest_folder(path)
    values = {"path": str(path.absolute()), "folder": str(folder), "type": file_system(folder)}
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
            file.flush()
    except OSError as error:
        told = unwritable(path.absolute(), error, remedy)
        fact = f"{what}: {told.path} {told.reason}"
        return failure(check, fact, f"{what.capitalize()} cannot be written.", told.remedy, **values)
    free = _free(folder)
    fact = f"{what}: {path.absolute()}, {megabytes(free)} free, {values['type'] or 'file system'}"
    if free < _LITTLE:
        meaning = "Checkpoints and the packed dataset may not fit."
        return warning(check, fact, meaning, f"free some space, or {remedy}", free=free, **values)
    return ok(check, fact, "It can be written.", free=free, **values)


def file_system(folder: Path, mounts: Path = Path("/proc/self/mounts")) -> str:
    """The type of file system a folder lies on, e.g. "ext4" or "nfs4"; "" where the system does not tell."""
    best, kind = "", ""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    where = str(folder.resolve())
    for line in lines:
        _, point, name, *_ = [*line.split(" "), "", "", ""]
        point = point.replace("\\040", " ")
        inside = where == point or where.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, name
    return kind


def _free(folder: Path) -> int:
    if not hasattr(os, "statvfs"):
        import shutil

        return shutil.disk_usage(folder).free
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize
