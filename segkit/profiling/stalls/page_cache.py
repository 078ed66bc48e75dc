"""Drops files from the page cache, or brings them there, and says whether that worked."""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from segkit.profiling.text import percent

CHECKED_FILES = 64
STILL_CACHED = 0.10  # share of pages that may stay without a word; the fetch stall is too small by no more than that


def drop(files: Sequence[Path]) -> str:
    """Ask the system to forget the files' cached pages (`posix_fadvise`, DONTNEED).

    Returns:
        Empty where it worked; else what stood in the way, as a clause. Pages that a process has mapped, or that
        were not yet written to the disk, stay; a network file system may ignore the wish.
    """
    if not hasattr(os, "posix_fadvise"):
        return "this system cannot drop files from the page cache (no posix_fadvise)"
    cached: float | None = 1.0
    for _ in range(2):  # a page that is just being read by somebody else stays at the first attempt
        for file in files:
            try:
                _forget(file)
            except OSError as error:
                return f"{file} could not be dropped from the page cache ({error.strerror})"
        cached = resident_share(_some(files))
        if cached is None or cached <= STILL_CACHED:
            break
    if cached is None:
        return "whether the page cache was dropped cannot be told on this system"
    if cached > STILL_CACHED:
        return f"{percent(cached)} of the data stayed in the page cache"
    return ""


def _forget(file: Path) -> None:
    handle = os.open(file, os.O_RDONLY)
    try:
        os.fdatasync(handle)  # a page that is not on the disk yet cannot be dropped
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)


def warm(files: Sequence[Path], most_seconds: float = 60.0) -> str:
    """Read the files, so that they are in the page cache. Empty where all of them are; else a clause that says so."""
    until = time.monotonic() + most_seconds
    for k, file in enumerate(files):
        if time.monotonic() > until:
            read = percent(k / len(files))
            return f"only {read} of the data was read into the page cache within {most_seconds:.0f} s"
        with file.open("rb", buffering=0) as handle:
            while handle.read(1 << 22):
                pass
    cached = resident_share(_some(files))
    if cached is not None and cached < 1 - STILL_CACHED:
        return f"the page cache holds {percent(cached)} of the data only"
    return ""


def _some(files: Sequence[Path]) -> Sequence[Path]:
    """A sample of many files, spread over all of them."""
    return files[:: max(1, len(files) // CHECKED_FILES)]


def resident_share(files: Sequence[Path]) -> float | None:
    """Share of the files' pages that are in the page cache (`mincore`); None where the system cannot tell."""
    if not sys.platform.startswith("linux"):
        return None
    cached = total = 0
    for file in files:
        try:
            pages = _resident_pages(file)
        except (OSError, ValueError):
            return None
        cached += sum(pages)
        total += len(pages)
    return cached / total if total else 0.0


def _resident_pages(file: Path) -> list[bool]:
    size = file.stat().st_size
    if size == 0:
        return []
    pages = -(-size // mmap.PAGESIZE)
    vector = (ctypes.c_ubyte * pages)()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    with file.open("rb") as handle:
        address = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, handle.fileno(), 0)
    if address in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), "mmap failed")
    try:
        if libc.mincore(address, size, vector) != 0:
            raise OSError(ctypes.get_errno(), "mincore failed")
        return [bool(flag & 1) for flag in vector]
    finally:
        libc.munmap(address, size)
