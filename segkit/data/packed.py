"""The packed cache: every slice and mask of a dataset as one uint8 memory map, one record a slice.

It is built once, keyed by a fingerprint of the inputs, and appears atomically: a builder that is killed leaves
nothing that looks like a cache, and of several ranks that start at once one builds while the others wait.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from segkit.data.cases import CaseSet
from segkit.data.read import fingerprint
from segkit.data.survey import Frame, Pair, Survey, run_survey
from segkit.unwritable import unwritable

RECORDS, SURVEY = "records.u8", "survey.npz"


def cache_key(case_set: CaseSet, frame: Frame, *, packed: bool) -> str:
    """Name of the cache entry: changes with any input file, the frame and the kind."""
    text = f"{fingerprint(case_set)} {frame.size} {frame.fit} {len(case_set.channels)} {packed}"
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def open_cache(case_set: CaseSet, frame: Frame, cache: Path, *, packed: bool) -> tuple[Survey, Path]:
    """The survey and the folder of the cache entry, building it first where it is absent.

    With `packed` the entry also holds the records; without, only the survey.

    Raises:
        FileError: an unreadable slice (all are named), or a cache folder that cannot be written.
    """
    entry = cache / cache_key(case_set, frame, packed=packed)
    if not (entry / SURVEY).exists():
        with locked(entry.with_suffix(".lock")):
            if not (entry / SURVEY).exists():  # another rank may have built it while this one waited
                _build(entry, lambda folder: _fill(case_set, frame, folder, packed))
    return Survey.load(entry / SURVEY), entry


def open_records(entry: Path, count: int, record: int) -> np.ndarray:
    """The memory map, uint8 [count, record], read-only."""
    return np.memmap(entry / RECORDS, dtype=np.uint8, mode="r", shape=(count, record))


def _fill(case_set: CaseSet, frame: Frame, folder: Path, packed: bool) -> None:
    keep: Callable[[int, Pair], None] | None = None
    with (folder / RECORDS).open("wb") if packed else contextlib.nullcontext() as file:
        if file is not None:

            def keep(i: int, pair: Pair) -> None:
                file.write(np.ascontiguousarray(pair[0]).data)
                file.write(np.ascontiguousarray(pair[1]).data)

        survey = run_survey(case_set, frame, keep)
    survey.save(folder / SURVEY)


def _build(entry: Path, fill: Callable[[Path], None]) -> None:
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=entry.parent, prefix=f".{entry.name}."))
    except OSError as error:
        raise unwritable(
            entry.parent, error, "set SEGKIT_CACHE to a folder you can write to, or choose one with --run"
        ) from error
    try:
        fill(folder)
        folder.chmod(0o755)
        folder.rename(entry)
    except OSError as error:
        if not (entry / SURVEY).exists():  # else a builder without locks was faster, and its entry is as good
            raise unwritable(entry, error, "free some space, or set SEGKIT_CACHE") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file where the system has them; elsewhere the atomic renaming alone keeps the cache whole."""
    try:
        import fcntl

        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except (ImportError, OSError):
        yield
        return
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
