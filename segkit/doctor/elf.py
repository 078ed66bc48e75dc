"""Which shared libraries a library needs, read from its dynamic section (ELF, System V ABI), and which are missing."""

from __future__ import annotations

import ctypes
import struct
from pathlib import Path

_DYNAMIC, _LOAD = 2, 1  # types of program headers
_NEEDED, _STRTAB = 1, 5  # tags of the dynamic section


def needed(path: Path) -> list[str]:
    """Names of the libraries that the 64-bit little-endian library at `path` needs, in order; empty for other files."""
    try:
        with path.open("rb") as file:
            head = file.read(64)
            if head[:6] != b"\x7fELF\x02\x01":
                return []
            start, size, count = (*struct.unpack_from("<Q", head, 32), *struct.unpack_from("<HH", head, 54))
            file.seek(start)
            table = file.read(size * count)
            headers = [struct.unpack_from("<IIQQQQQQ", table, size * i) for i in range(count)]
            loads = [(h[3], h[5], h[2]) for h in headers if h[0] == _LOAD]  # address, bytes, place in the file
            dynamic = next(h for h in headers if h[0] == _DYNAMIC)
            file.seek(dynamic[2])
            tags = list(struct.iter_unpack("<QQ", file.read(dynamic[5] // 16 * 16)))
            address = next(value for tag, value in tags if tag == _STRTAB)
            strings = next(address - start + place for start, size, place in loads if start <= address < start + size)
            names = []
            for offset in (value for tag, value in tags if tag == _NEEDED):
                file.seek(strings + offset)
                names.append(file.read(256).partition(b"\0")[0].decode("utf-8", "replace"))
            return names
    except (OSError, StopIteration, struct.error):
        return []


def missing(path: Path) -> list[str]:
    """Names of the libraries that `path` needs and that cannot be loaded here. Loads those that can."""
    return [name for name in needed(path) if not _loads(name, path.parent)]


def _loads(name: str, beside: Path) -> bool:
    for candidate in (name, str(beside / name)):  # a library finds its neighbours by its own search path
        try:
            ctypes.CDLL(candidate)
        except OSError:
            continue
        return True
    return False
