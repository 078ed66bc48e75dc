"""A bounded amount of something (bytes, voxels, requests) that requests take and give back."""

from __future__ import annotations

import threading
from types import TracebackType

from segkit.serving.errors import Busy


class Budget:
    """So much of something at once, shared by the event loop and the threads."""

    def __init__(self, capacity: int, full: str) -> None:
        """`full` is the sentence for whoever comes when nothing is left."""
        self.capacity = capacity
        self.taken = 0
        self.full = full
        self.lock = threading.Lock()

    def share(self, amount: int = 0) -> Share:
        """A share of `amount`, given back at the end of its `with` block. Raises Busy."""
        share = Share(self)
        share.grow_to(amount)
        return share


class Share:
    """What one request has taken."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.amount = 0

    def grow_to(self, amount: int) -> None:
        """Hold `amount` in all.

        Raises:
            Busy: the others hold too much for that. Alone, a request may hold more than there is.
        """
        with self._budget.lock:
            others = self._budget.taken - self.amount
            if others and others + amount > self._budget.capacity:
                raise Busy(self._budget.full)
            if amount > self.amount:
                self._budget.taken += amount - self.amount
                self.amount = amount

    def __enter__(self) -> Share:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._budget.lock:
            self._budget.taken -= self.amount
            self.amount = 0
