"""A process and all that it started, from /proc."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

FORGET_SECONDS = 60.0  # numbers of processes are used again, but not within a minute


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """What /proc/PID/stat says of a process; times in clock ticks."""

    parent: int
    cpu: int  # its own
    reaped: int  # of its children that have ended
    started: int  # since boot; with the process id it names a process for good
    rss: int  # pages
    ended: bool  # a zombie: only its parent has not asked for it yet


def process_stat(pid: int) -> ProcessStat | None:
    """None where there is no such process, or no /proc."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:  # noqa: PTH123 - read several times a second
            # The name may hold spaces and brackets: what is wanted begins behind the last bracket.
            words = file.read(4096).rpartition(b")")[2].split()
        return ProcessStat(
            parent=int(words[1]),
            cpu=int(words[11]) + int(words[12]),
            reaped=int(words[13]) + int(words[14]),
            started=int(words[19]),
            rss=int(words[21]),
            ended=words[0] in (b"Z", b"X"),
        )
    except (OSError, ValueError, IndexError):
        return None


class ProcessTree:
    """The living descendants of a process, the process left out.

    `scan` reads only processes that it has not met yet, so that it stays cheap where thousands run.
    """

    def __init__(self, root: int) -> None:
        self.root = root
        self.descendants: set[int] = set()
        self._strangers: set[int] = set()
        self._forgotten = time.monotonic()

    def scan(self) -> set[int]:
        """Look for processes that began or ended since the last scan."""
        alive = {int(name) for name in _proc() if name.isdigit()}
        if time.monotonic() - self._forgotten > FORGET_SECONDS:
            self._strangers.clear()
            self._forgotten = time.monotonic()
        self._strangers &= alive
        self.descendants &= alive
        parents = {}
        for pid in alive - self._strangers - self.descendants - {self.root}:
            stat = process_stat(pid)
            if stat is not None:
                parents[pid] = stat.parent
        self._adopt(parents)
        return self.descendants

    def _adopt(self, parents: dict[int, int]) -> None:
        """Take the new processes whose line of parents leads into the tree; the rest are strangers."""
        family = self.descendants | {self.root}
        while new := {pid for pid, parent in parents.items() if parent in family and pid not in family}:
            family |= new
        self.descendants = family - {self.root}
        self._strangers |= parents.keys() - family


def _proc() -> list[str]:
    try:
        return os.listdir("/proc")  # noqa: PTH208 - names are all that is needed
    except OSError:
        return []
