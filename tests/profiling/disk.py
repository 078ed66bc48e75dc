"""Whether a read came from the disk, by the kernel's own account of this process."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

ACCOUNT = Path("/proc/self/io")


def bytes_read() -> int:
    """What this process has read from storage so far; reads from the page cache do not count."""
    lines = dict(line.split(": ") for line in ACCOUNT.read_text().splitlines())
    return int(lines["read_bytes"])


def came_from_disk(file: Path) -> bool:
    """Read the file; whether the disk was needed for it."""
    before = bytes_read()
    file.read_bytes()
    return bytes_read() > before


def write_files(folder: Path, count: int, size: int) -> list[Path]:
    """Files whose pages the system can forget; the test is skipped where it cannot, or where nobody counts reads."""
    files = [folder / f"{k}.bin" for k in range(count)]
    for file in files:
        file.write_bytes(os.urandom(size))
    if not ACCOUNT.exists() or not hasattr(os, "posix_fadvise"):
        pytest.skip("nobody counts this process's reads")
    forget(files[:1])
    if not came_from_disk(files[0]):
        pytest.skip("this file system keeps its pages in memory")
    return files


def forget(files: Sequence[Path]) -> None:
    for file in files:
        handle = os.open(file, os.O_RDONLY)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)
