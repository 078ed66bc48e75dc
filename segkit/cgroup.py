"""The limits of the control groups that this process is in (Linux, versions 1 and 2).

A job or container is limited by its own group and by every group above it; where the process sees its group as the
root of the tree (most containers), the root's files hold the limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_UNLIMITED = 1 << 60  # version 1 writes a number near 2^63 for "none"


def cpu_quota(root: Path = Path("/")) -> float | None:
    """CPUs by the tightest quota, e.g. 2.5; None where there is none."""
    found = [quota for folder in _folders(root, "cpu") if (quota := _quota(folder)) is not None]
    return min(found, default=None)


def memory_limit(root: Path = Path("/")) -> int | None:
    """Bytes that the tightest group may use; None where there is no limit."""
    return min((limit for limit, _ in _memory(root)), default=None)


def memory_left(root: Path = Path("/")) -> int | None:
    """Bytes until the first limit is met, page cache that can be dropped counted as free; None without a limit."""
    return min((max(0, limit - used) for limit, used in _memory(root)), default=None)


def _memory(root: Path) -> Iterator[tuple[int, int]]:
    """Limit and use of each group that has a limit."""
    for folder in _folders(root, "memory"):
        limits = [_number(folder / name) for name in ("memory.max", "memory.high", "memory.limit_in_bytes")]
        known = [limit for limit in limits if limit is not None and limit < _UNLIMITED]
        if known:
            uses = [_number(folder / name) for name in ("memory.current", "memory.usage_in_bytes")]
            used = next((use for use in uses if use is not None), 0)
            yield min(known), max(0, used - _droppable(folder))


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's groups, from its own up to the root of the tree."""
    mounted = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if names and controller not in names.split(","):
            continue
        top = mounted / names if names else mounted
        if names and not top.is_dir():
            top = mounted / controller
        folder = top / path.lstrip("/")
        while folder != top and top in folder.parents:
            yield folder
            folder = folder.parent
        yield top


def _quota(folder: Path) -> float | None:
    words = _text(folder / "cpu.max").split()  # version 2: "max 100000" or "200000 100000"
    if len(words) != 2:
        words = [_text(folder / name).strip() for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")]
    try:
        quota, period = int(words[0]), int(words[1])
    except ValueError:
        return None
    return quota / period if quota > 0 and period > 0 else None


def _droppable(folder: Path) -> int:
    for line in _text(folder / "memory.stat").splitlines():
        if line.startswith(("inactive_file ", "total_inactive_file ")):
            return int(line.split()[1])
    return 0


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
