"""One request's place in the server: whether anyone still waits for it, and how far it is."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, Future
from typing import Any


class Ticket:
    """Shared by the event loop, the request's thread and the batcher.

    Attributes:
        done: slices that have been through the net.
        queue_s: longest wait of one of its slices for a batch.
        compute_s: time of the batches its slices were in.
        format: what was sent; empty until that is known.
    """

    def __init__(self) -> None:
        self.done = 0
        self.queue_s = 0.0
        self.compute_s = 0.0
        self.format = ""
        self._lock = threading.Lock()
        self._cancelled = False
        self._future: Future[Any] | None = None

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits any more."""
        return self._cancelled

    def cancel(self) -> None:
        """Stop caring: slices that wait are dropped, and the thread that waits for them is woken."""
        with self._lock:
            self._cancelled = True
            future = self._future
        if future is not None:
            future.cancel()

    def check(self) -> None:
        """Raises CancelledError if nobody waits any more."""
        if self._cancelled:
            raise CancelledError

    def attach(self, future: Future[Any]) -> None:
        """Let `cancel` cancel `future` as well. Raises CancelledError if nobody waits any more."""
        with self._lock:
            self._future = future
        self.check()

    def wait(self, future: Future[Any]) -> Any:
        """The result of `future`. Raises CancelledError as soon as nobody waits any more."""
        self.attach(future)
        return future.result()

    def advance(self, slices: int) -> None:
        """Count slices that have been through the net."""
        self.done += slices

    def account(self, waited: float, took: float) -> None:
        """Add a batch that took `took` seconds, for which its slices waited `waited` seconds."""
        self.queue_s = max(self.queue_s, waited)
        self.compute_s += took
