"""Keeps freed host memory for the next step.

glibc gives large buffers back to the system as soon as they are freed, and every step asks for the same ones again: the
kernel then clears and maps each page anew. On a CPU that is an eighth of a U-Net's step, and most of the time in which
the packed loader makes a batch.
"""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h
_MOST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Let this process, and those forked from it, keep what they free; False where the C library is not glibc."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    return bool(libc.mallopt(_MMAP_MAX, 0)) and bool(libc.mallopt(_TRIM_THRESHOLD, _MOST))
