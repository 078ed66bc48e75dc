"""Slices of concurrent requests go through the net together.

A few threads run the net. While they compute, slices gather; what has gathered becomes the next batch. Each waiting
request gets its share of every batch, so a single slice does not wait for the two hundred that came before it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segkit.inference.segmenter import BATCH_PIXELS
from segkit.inference.session import Model
from segkit.serving.config import BatchConfig
from segkit.serving.models import Served
from segkit.serving.ticket import Ticket

Arrays = dict[str, NDArray[Any]]

# From so many slices that wait, batches run side by side, each with its share of the cores: 8.5 slices a second on two
# cores. With fewer a batch gets all cores and runs alone: 8.1 a second, in half the time each. What loses is a batch
# with all cores beside one with its share: 7.0.
_CROWD = 4

_log = logging.getLogger("segkit.serving")


@dataclass(eq=False)
class _Task:
    """Slices of one request, all of one shape, for one model."""

    served: Served
    images: NDArray[np.uint8]  # [N, H, W, C]
    outputs: tuple[str, ...]
    ticket: Ticket
    future: Future[Arrays] = field(default_factory=Future)
    arrived: float = field(default_factory=time.perf_counter)
    taken: int = 0  # slices that are in a batch, or have been
    done: int = 0
    results: Arrays = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)  # its parts may come from two batches at once

    @property
    def key(self) -> tuple[Any, ...]:
        """Tasks of equal keys can share a batch."""
        return id(self.served), self.images.shape[1:], self.outputs

    @property
    def left(self) -> int:
        """Slices that are in no batch yet."""
        return len(self.images) - self.taken

    @property
    def dropped(self) -> bool:
        return self.ticket.cancelled or self.future.done()


@dataclass(frozen=True)
class _Part:
    """The slices of a task that are in a batch."""

    task: _Task
    start: int
    stop: int

    @property
    def images(self) -> NDArray[np.uint8]:
        return self.task.images[self.start : self.stop]


@dataclass(frozen=True)
class BatchReport:
    """What one batch was, for the metrics."""

    name: str
    slices: int
    queue_s: tuple[float, ...]  # of each request in it
    compute_s: float


def batch_pixels(model: Model, config: BatchConfig) -> int:
    """Pixels of the slices of a batch; a single slice may have more. Parallel batches share the usual amount."""
    height, width = model.metadata.size
    return config.batch * height * width if config.batch else BATCH_PIXELS[model.device] // config.parallel


class Batcher:
    """Runs slices of many requests in common batches, on threads of its own."""

    def __init__(self, config: BatchConfig, report: Callable[[BatchReport], None] | None = None) -> None:
        self._config = config
        self._report = report
        self._tasks: deque[_Task] = deque()
        self._coming = 0  # requests that are in work and have not sent slices yet
        self._gathering = 0  # threads that wait for those
        self._running = 0  # batches that are in the net
        self._alone = False  # one of them has all cores, and no other starts
        self._changed = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"segkit-batcher-{number}", daemon=True)
            for number in range(config.parallel)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Slices that are not in a batch yet."""
        with self._changed:
            return sum(task.left for task in self._tasks if not task.dropped)

    def announce(self, change: int) -> None:
        """Count a request whose slices will come (+1), or will come no more (-1)."""
        with self._changed:
            self._coming += change
            if self._gathering:
                self._changed.notify_all()

    def submit(
        self, served: Served, images: NDArray[np.uint8], outputs: tuple[str, ...], ticket: Ticket
    ) -> Future[Arrays]:
        """Queue `[N, H, W, C]`; the future gives an array of N for each of `outputs`. Never blocks."""
        task = _Task(served, images, outputs, ticket)
        with self._changed:
            if self._closed:
                raise RuntimeError("the batcher is closed")
            self._tasks.append(task)
            # Each thread that wakes takes time from the rest: all only where some are gathering and one may be idle.
            self._changed.notify(len(self._threads) if self._gathering else 1)
        return task.future

    def close(self) -> None:
        """End the threads after the slices that are queued."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._ready():
                    self._changed.wait()
                if not self._tasks:
                    return
                self._gather()
                if self._alone or not self._prune():
                    continue
                beside = self._running > 0 or self.waiting >= _CROWD
                parts = self._take()
                self._alone = not beside and parts[0].task.served.model.beside is not None
                if self._tasks and not self._alone:
                    self._changed.notify()  # another thread may take what is left
                self._running += 1
            try:
                self._run(parts, beside)
            except Exception as error:  # a bug, or a model that answers another shape: the thread must go on
                _log.exception("a batch could not be delivered")
                for part in parts:
                    _reject(part.task, error)
            finally:
                with self._changed:
                    self._running -= 1
                    if self._alone:  # then this was the only one
                        self._alone = False
                        self._changed.notify(len(self._threads) if self._closed else 1)
            del parts  # nothing of a request outlives it in this frame

    def _ready(self) -> bool:
        """Whether a thread has something to do: a batch that it may start, or to end."""
        return not self._alone if self._prune() else self._closed

    def _prune(self) -> bool:
        """Drop what nobody waits for; whether anything is left."""
        if any(task.dropped for task in self._tasks):
            self._tasks = deque(task for task in self._tasks if not task.dropped)
        return bool(self._tasks)

    def _gather(self) -> None:
        """Wait a moment for slices of requests that are known to come, unless the batch is full already."""
        end = self._tasks[0].arrived + self._config.delay_ms / 1000
        while self._coming > 0 and not self._closed and self._tasks:
            lead = self._tasks[0]
            ready = sum(task.left for task in self._tasks if task.key == lead.key)
            left = end - time.perf_counter()
            if left <= 0 or ready >= self._capacity(lead):
                return
            self._gathering += 1
            self._changed.wait(left)
            self._gathering -= 1

    def _capacity(self, task: _Task) -> int:
        _, height, width, _ = task.images.shape
        pixels = batch_pixels(task.served.model, self._config)
        return int(max(1, pixels // (height * width)))

    def _take(self) -> list[_Part]:
        """The next batch: of all tasks that fit the first one, each its share, then what room is left."""
        lead = self._tasks[0]
        same = [task for task in self._tasks if task.key == lead.key]
        room = self._capacity(lead)
        shares = dict.fromkeys(same[:room], 0)
        while room and any(task.left > shares[task] for task in shares):
            for task in shares:
                if room and task.left > shares[task]:
                    shares[task] += 1
                    room -= 1
        parts = []
        for task, count in shares.items():
            parts.append(_Part(task, task.taken, task.taken + count))
            task.taken += count
            self._tasks.remove(task)
            if task.left:
                self._tasks.append(task)  # behind those that got nothing this time
        return parts

    def _run(self, parts: list[_Part], beside: bool) -> None:
        began = time.perf_counter()
        first = parts[0].task
        images = parts[0].images if len(parts) == 1 else np.concatenate([part.images for part in parts])
        try:
            results = first.served.model.run(first.outputs, images, beside=beside)
            arrays = dict(zip(first.outputs, results, strict=True))
        except BaseException as error:
            self._fail(parts, error, beside)
            return
        took = time.perf_counter() - began
        waits = []
        at = 0
        for part in parts:
            waits.append(began - part.task.arrived if part.start == 0 else 0.0)
            part.task.ticket.account(waits[-1], took)  # first, because delivery wakes whoever reads it
            _deliver(part, {name: array[at : at + part.stop - part.start] for name, array in arrays.items()})
            at += part.stop - part.start
        if self._report is not None:
            self._report(BatchReport(first.served.name, len(images), tuple(waits), took))

    def _fail(self, parts: list[_Part], error: BaseException, beside: bool) -> None:
        """Tell those who wait. Of a batch each part is tried alone, so that one request cannot spoil another."""
        if len(parts) > 1:
            for part in parts:
                self._run([part], beside)
            return
        _log.warning("a batch failed: %s", error)
        _reject(parts[0].task, error)


def _reject(task: _Task, error: BaseException) -> None:
    """Tell whoever waits for the task, if anyone still does."""
    if not task.future.done() and task.future.set_running_or_notify_cancel():
        task.future.set_exception(error)


def _deliver(part: _Part, arrays: Arrays) -> None:
    """Put the results of a part where the task collects them; the last part completes the task."""
    task = part.task
    count = len(task.images)
    with task.lock:
        for name, array in arrays.items():
            if len(array) == count:
                task.results[name] = array
                continue
            if name not in task.results:
                task.results[name] = np.empty((count, *array.shape[1:]), array.dtype)
            task.results[name][part.start : part.stop] = array
        task.done += part.stop - part.start
        complete = task.done == count
        if not task.dropped:
            task.ticket.advance(part.stop - part.start)
    if complete and task.future.set_running_or_notify_cancel():
        task.future.set_result(task.results)
