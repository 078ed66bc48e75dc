"""Memory that was freed, back to the system.

glibc keeps freed memory for the next request, in an arena for each thread. After large scans in many threads that
is a lot to keep.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

_M_ARENA_MAX = -8  # from malloc.h
_ARENAS = 4


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
