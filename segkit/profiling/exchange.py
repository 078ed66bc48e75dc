"""Short texts between the ranks of a job."""

from __future__ import annotations

import datetime
import itertools
import time
from typing import Any

from segkit.profiling.place import distributed

_numbers = itertools.count()  # of the exchanges of this process: the ranks' first ones belong together, and so on


class Exchange:
    """Texts between the ranks, over the store through which torch.distributed let them find each other.

    No collective: the program's own ones keep their order, a rank may profile alone, and one that does not come is not
    waited for without end.
    """

    def __init__(self, rank: int, world: int, patience: float) -> None:
        """Prepare; every rank that takes part makes its exchanges in the same order.

        Args:
            rank: of this process.
            world: ranks of the job.
            patience: seconds to wait for the others.
        """
        self.rank, self.world = rank, world
        self._patience, self._turn, self._name = patience, 0, f"segkit/profiling/{next(_numbers)}"

    @property
    def in_touch(self) -> bool:
        """Whether `gather` reaches the other ranks."""
        return self.world == 1 or _store() is not None

    def gather(self, text: str) -> list[str | None]:
        """The texts of all ranks, by rank. None: that rank did not come; it is not waited for again.

        Where torch.distributed does not run, only this rank's text is known.
        """
        store = _store() if self.world > 1 else None
        if store is None:
            return [text if rank == self.rank else None for rank in range(self.world)]
        keys = [f"{self._name}/{self._turn}/{rank}" for rank in range(self.world)]
        self._turn += 1
        end = time.monotonic() + self._patience
        try:
            store.set(keys[self.rank], text)
            texts = [_read(store, key, end) for key in keys]
        except RuntimeError:  # the rank that holds the store has ended
            return [text if rank == self.rank else None for rank in range(self.world)]
        if None in texts:
            self._patience = 0.0
        return texts


def _read(store: Any, key: str, end: float) -> str | None:
    """What another rank wrote, or None where it has not until `end` (of the monotonic clock)."""
    left = end - time.monotonic()
    if not store.check([key]):
        if left <= 0:
            return None
        try:
            store.wait([key], datetime.timedelta(seconds=left))
        except RuntimeError:  # too late
            return None
    data: bytes = store.get(key)
    return data.decode()


def _store() -> Any:
    """The store of torch.distributed where it runs; None elsewhere."""
    dist = distributed()
    return dist.distributed_c10d._get_default_store() if dist is not None else None
