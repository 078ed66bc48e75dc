"""Where uploads lie, and memory that was freed, back to the system.

glibc keeps freed memory for the next request, in an arena for each thread. After large scans in many threads that
is a lot to keep.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
from pathlib import Path
from typing import Any

_M_ARENA_MAX = -8  # from malloc.h
_ARENAS = 4
_MEMORY_DISK = Path("/dev/shm")


def scratch_folder(size: int) -> str | None:
    """A folder whose files lie in memory, if one has room for `size` bytes; else None, for Python's own choice.

    A scan then never touches a disk, and its file is gone in microseconds. `TMPDIR` overrides.
    """
    if "TMPDIR" in os.environ or not os.access(_MEMORY_DISK, os.W_OK):
        return None
    return str(_MEMORY_DISK) if shutil.disk_usage(_MEMORY_DISK).free >= size else None


def share_arenas() -> None:
    """Let all threads share a few arenas. To be called before they start."""
    library = _glibc()
    if library is not None:
        library.mallopt(_M_ARENA_MAX, _ARENAS)


def trim() -> None:
    """Hand freed memory back, where the C library can. Takes some milliseconds."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


@functools.cache
def _glibc() -> Any:
    """The C library, if it is glibc; None with musl, on macOS and Windows."""
    try:
        library = ctypes.CDLL(None)
        library.malloc_trim.argtypes = (ctypes.c_size_t,)
        library.mallopt.argtypes = (ctypes.c_int, ctypes.c_int)
    except (OSError, AttributeError, TypeError):
        return None
    return library
