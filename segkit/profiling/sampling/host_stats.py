"""What the training process, its loader workers and the machine did between two readings, from /proc (Linux)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from segkit.profiling.records import HostSample, Missing
from segkit.profiling.sampling.process_tree import ProcessStat, ProcessTree, process_stat

SCAN_SHARE = 1 / 200  # of one CPU's time, at most, goes into searching for new processes


@dataclass(frozen=True)
class _Counters:
    """Running totals at one time; None where the system does not keep them."""

    when: float  # monotonic, seconds
    cpu_main: float | None = None  # seconds
    cpu_workers: float | None = None  # seconds
    workers: int | None = None
    rss: int | None = None
    read: int | None = None  # bytes
    stalled: float | None = None  # seconds
    cpu_machine: float | None = None  # seconds
    queued: float | None = None  # seconds, of the workers


class HostStats:
    """Reads a process tree. Rates are means since the reading before, at first since this was made.

    What a worker used counts until it is over, also if it ended between two readings, because the system adds the
    totals of an ended process to those of its parent.
    """

    def __init__(self, *pids: int) -> None:
        """Read the trees of these processes together; by default of this one."""
        self.pids = pids or (os.getpid(),)
        self._trees = [ProcessTree(pid) for pid in self.pids]
        self._pressure = _pressure_file(self.pids[0])
        self._next_scan = 0.0
        self._before = self._count()
        self._next_scan = 0.0  # the first search met every process of the machine; the next ones are cheap

    def missing(self) -> list[Missing]:
        """What this system does not tell, and why."""
        now = self._before
        if now.cpu_main is None and not Path("/proc/self/stat").exists():
            return [Missing("CPU use, memory and storage reads of the host", "this system has no /proc")]
        found = []
        if now.cpu_main is None:
            found.append(Missing("CPU use and memory of the process", f"there is no process {self.pids[0]}"))
        elif now.read is None:
            found.append(Missing("bytes read from storage", f"/proc/{self.pids[0]}/io cannot be read"))
        if now.stalled is None:
            found.append(Missing("time waited for storage", "the kernel keeps no pressure stall information (PSI)"))
        return found

    def read(self, t: float) -> HostSample:
        """The sample for Unix time `t`."""
        before, now = self._before, self._count()
        self._before = now
        seconds = max(now.when - before.when, 1e-6)
        read, stalled = _rate(before.read, now.read, seconds), _rate(before.stalled, now.stalled, seconds)
        return HostSample(
            t=t,
            cpu_main=_rate(before.cpu_main, now.cpu_main, seconds),
            cpu_workers=_rate(before.cpu_workers, now.cpu_workers, seconds),
            workers=now.workers,
            read=read,
            io_wait=min(1.0, stalled) if stalled is not None else None,
            rss=now.rss,
            cpu_machine=_rate(before.cpu_machine, now.cpu_machine, seconds),
            queued_workers=_rate(before.queued, now.queued, seconds),
        )

    def _count(self) -> _Counters:
        now = time.monotonic()
        stalled, machine = _stalled_seconds(self._pressure), _machine_seconds()
        mains = [stat for stat in map(process_stat, self.pids) if stat is not None]
        if not mains:
            return _Counters(now, stalled=stalled, cpu_machine=machine)
        workers = self._workers(now)
        tick, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
        return _Counters(
            when=now,
            cpu_main=sum(main.cpu for main in mains) / tick,
            cpu_workers=(sum(m.reaped for m in mains) + sum(w.cpu + w.reaped for w in workers.values())) / tick,
            workers=sum(not w.ended for w in workers.values()),
            rss=sum(process.rss for process in [*mains, *workers.values()]) * page,
            read=_bytes_read([*self.pids, *workers]),
            stalled=stalled,
            cpu_machine=machine,
            queued=_queued_seconds(workers),
        )

    def _workers(self, now: float) -> dict[int, ProcessStat]:
        stats = {pid: process_stat(pid) for tree in self._trees for pid in tree.descendants}
        if now >= self._next_scan or None in stats.values():
            began = time.thread_time()
            stats = {pid: process_stat(pid) for tree in self._trees for pid in tree.scan()}
            self._next_scan = now + (time.thread_time() - began) / SCAN_SHARE
        return {pid: stat for pid, stat in stats.items() if stat is not None and pid not in self.pids}


def _rate(before: float | None, now: float | None, seconds: float) -> float | None:
    """A total falls where a process left the tree without its parent asking for it: then nothing is known."""
    if before is None or now is None or now < before:
        return None
    return (now - before) / seconds


def _bytes_read(pids: list[int]) -> int | None:
    """Bytes fetched from storage, not from the page cache; None where the first process may not be read."""
    total = _read_bytes_of(pids[0])
    if total is None:
        return None
    return total + sum(_read_bytes_of(pid) or 0 for pid in pids[1:])


def _read_bytes_of(pid: int) -> int | None:
    for line in _read(f"/proc/{pid}/io").splitlines():
        if line.startswith(b"read_bytes:"):
            return int(line.split()[1])
    return None


def _queued_seconds(pids: Iterable[int]) -> float | None:
    """How long the processes' first threads were ready to run, but had no CPU; None where the kernel does not count."""
    totals = [_read(f"/proc/{pid}/schedstat").split() for pid in pids]
    known = [int(words[1]) for words in totals if len(words) >= 2]
    return sum(known) / 1e9 if len(known) == len(totals) else None


def _pressure_file(pid: int) -> str:
    """PSI of the process's own control group where the system keeps it, else of the machine."""
    for line in _read(f"/proc/{pid}/cgroup").decode(errors="replace").splitlines():
        if line.startswith("0::"):
            file = Path("/sys/fs/cgroup", line[3:].lstrip("/"), "io.pressure")
            if _stalled_seconds(str(file)) is not None:
                return str(file)
    return "/proc/pressure/io"


def _stalled_seconds(file: str) -> float | None:
    """How long at least one task has waited for storage, in all."""
    words = _read(file).split(b"\n", 1)[0].split()
    if not words or words[0] != b"some":
        return None
    return int(words[-1].removeprefix(b"total=")) / 1e6


def _machine_seconds() -> float | None:
    """CPU seconds that the machine's processors were not idle, in all."""
    words = _read("/proc/stat").split(b"\n", 1)[0].split()
    if not words or words[0] != b"cpu":
        return None
    user, nice, system, _idle, _waiting, *interrupts = map(int, words[1:9])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def _read(file: str) -> bytes:
    """The file's beginning, empty where it cannot be read."""
    try:
        with open(file, "rb", buffering=0) as stream:  # noqa: PTH123 - read several times a second
            return stream.read(4096)
    except OSError:
        return b""
