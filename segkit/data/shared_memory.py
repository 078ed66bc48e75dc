"""How many loader workers /dev/shm has room for: a worker hands its batches over there.

Where it is full, torch's workers die of "Bus error" or fail to allocate, after the training has begun.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from segkit.container import larger_shared_memory, runtime

FOLDER = Path("/dev/shm")
_TAKEN = 2  # batches that the training holds: the one it computes on and the one it takes next
_OVERHEAD = 1 << 20  # bytes for the semaphores of the queues, a page each


@dataclass(frozen=True)
class Room:
    """What a batch takes, and what is free for all ranks of a node."""

    batch: int  # bytes
    prefetch: int  # batches that each worker keeps ready
    free: int  # bytes
    ranks: int = 1

    def needed(self, workers: int) -> int:
        """Bytes that `workers` workers on each rank take at most."""
        return self.ranks * (self.batch * (workers * self.prefetch + _TAKEN) + _OVERHEAD) if workers else 0

    def most(self, wanted: int) -> int:
        """The largest number of workers up to `wanted` that there is room for; 0: the training loads by itself."""
        return max(count for count in range(wanted + 1) if self.needed(count) <= self.free)

    def told(self, wanted: int, taken: int) -> str:
        """One line about fewer workers than were wanted."""
        more = larger_shared_memory(runtime())
        size = "cannot be used" if not self.free else f"has {megabytes(self.free)} free"
        return (
            f"{FOLDER} {size}, too little for {wanted} loader workers with batches of {megabytes(self.batch)} "
            f"({megabytes(self.needed(wanted))} needed): using {taken}; enlarge it with {more}"
        )


def free_bytes(folder: Path = FOLDER) -> int | None:
    """Bytes that are free in `folder`; 0 where it is not there or not writable; None: shared memory lies elsewhere."""
    if not hasattr(os, "statvfs") or not Path("/proc/self").exists():
        return None  # only Linux has the folder
    try:
        found = os.statvfs(folder)
    except OSError:
        return 0
    return found.f_bavail * found.f_frsize if os.access(folder, os.W_OK | os.X_OK) else 0


def megabytes(size: float) -> str:
    """Bytes for a reader, e.g. "64 MB"."""
    return f"{size / 1e9:.3g} GB" if size >= 1e9 else f"{size / 1e6:.3g} MB"
