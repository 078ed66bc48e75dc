"""Scans and tensors through a model: threads that read and draw, one batcher that computes."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from starlette.requests import Request

from segkit.errors import FileError, SegkitError
from segkit.imaging.read import read_scan
from segkit.imaging.scan import Scan
from segkit.inference.postprocess import largest_component
from segkit.inference.segmenter import Segmentation, Segmenter, Slicing
from segkit.resources import granted_cpus
from segkit.serving.batched import BatchedModel
from segkit.serving.batcher import Batcher, batch_pixels
from segkit.serving.budget import Budget, Share
from segkit.serving.claims import Claims
from segkit.serving.config import MEGA, BatchConfig, Limits
from segkit.serving.errors import Busy, Gone, RequestError, sentence_of
from segkit.serving.memory import scratch_folder, trim
from segkit.serving.metrics import Metrics
from segkit.serving.models import Served
from segkit.serving.study import SentStudy
from segkit.serving.ticket import Ticket
from segkit.serving.upload import Inspector, Upload

_AHEAD = 4  # batches that a volume keeps queued, so that the net never waits for its next slices
_IDLE_S = 10.0  # without requests before memory is handed back

T = TypeVar("T")


@dataclass(frozen=True)
class Job:
    """A scan to segment, for one request.

    Attributes:
        inspector: knows what was sent.
        values: of the request; it grows to what the scan needs.
        slicing: how a volume is cut, and its mask made.
        largest: keep the largest component of each class only.
        on_scan: called from the thread as soon as the scan is read.
    """

    inspector: Inspector
    served: Served
    ticket: Ticket
    values: Share
    slicing: Slicing
    largest: bool = False
    on_scan: Callable[[Scan], None] = lambda scan: None


@dataclass(frozen=True)
class Segmented:
    """A scan that went through, what it was sent as, and where its files lie."""

    scan: Scan
    result: Segmentation
    upload: Upload
    folder: Path


class Engine:
    """What all requests share."""

    def __init__(self, batch: BatchConfig, limits: Limits, metrics: Metrics) -> None:
        self.limits = limits
        self.metrics = metrics
        self.batcher = Batcher(batch, metrics.observe_batch)
        self.requests = Budget(limits.max_requests, "as many requests as this server takes are in work")
        self.bodies = Budget(int(limits.max_bodies_mb * MEGA), "the bodies of other requests fill the memory")
        self.values = Budget(int(limits.queue_megavoxels * MEGA), "the queue of this server is full")
        scratch = scratch_folder(2 * self.bodies.capacity)
        self.root = tempfile.TemporaryDirectory(prefix="segkit-serve-", dir=scratch)
        self._in_memory = scratch is not None
        self._batch = batch
        self._folders = 0
        self._used: float | None = None  # when a request last came, on the loop's clock; None: nothing to hand back
        self._threads = ThreadPoolExecutor(limits.max_requests, thread_name_prefix="segkit-request")
        # So many scans are decoded at once: more would only take turns on the CPUs, and hold memory meanwhile.
        self._cpus = threading.BoundedSemaphore(granted_cpus())
        metrics.watch(self)

    def close(self) -> None:
        """End the threads after the work they have."""
        self._threads.shutdown()
        self.batcher.close()
        self.root.cleanup()

    def segment(self, job: Job) -> Segmented:
        """Read a scan and segment it. Blocks; for `start`.

        Raises:
            RequestError: 400 damaged, 413 too large, 415 no scan, 422 not for this model.
            Busy: no room beside the scans of others.
            CancelledError: nobody waits any more.
        """
        model = BatchedModel(job.served, self.batcher, job.ticket)
        try:
            with self._cpus:
                job.ticket.check()
                upload = job.inspector.inspect()
                job.ticket.format = upload.format
                job.values.grow_to(upload.values(self.limits))
                scan = self._read(upload)
            job.on_scan(scan)
            height, width = model.metadata.size
            ahead = max(1, _AHEAD * batch_pixels(job.served.model, self._batch) // (height * width))
            result = Segmenter(model, ahead).segment(scan, job.slicing)
        except FileError as error:
            if error.path == job.served.model.path:
                raise RequestError(500, sentence_of(error, "the model")) from error
            raise RequestError(422, sentence_of(error, "the scan")) from error
        finally:
            model.close()
        if job.largest:
            result = replace(result, mask=largest_component(result.mask))
        return Segmented(scan, result, upload, job.inspector.folder)

    def _read(self, upload: Upload) -> Scan:
        began = time.perf_counter()
        try:
            scan = upload.source.read() if isinstance(upload.source, SentStudy) else read_scan(upload.source)
        except SegkitError as error:
            raise RequestError(400, sentence_of(error, "the scan")) from error
        slices, height, width = scan.shape
        Claims(scan.kind, slices, height, width, scan.pixels.shape[-1]).check(self.limits)
        self.metrics.observe_decode(upload.format, time.perf_counter() - began)
        return scan

    def hold(self) -> contextlib.ExitStack:
        """A request's place, to which it adds what else it takes. Raises Busy."""
        self._used = asyncio.get_running_loop().time()
        held = contextlib.ExitStack()
        held.enter_context(self.requests.share(1))
        return held

    def folder(self, held: contextlib.ExitStack) -> Path:
        """A private folder that goes with the request."""
        self._folders += 1
        folder = Path(self.root.name) / str(self._folders)
        folder.mkdir(mode=0o700)
        held.callback(self._remove, folder)
        return folder

    def _remove(self, folder: Path) -> None:
        """After the answer has been sent; from a disk in a thread: it takes milliseconds, for which all would wait."""
        remove = partial(shutil.rmtree, folder, ignore_errors=True)
        try:
            if self._in_memory:
                asyncio.get_running_loop().call_soon(remove)
            else:
                self._threads.submit(remove)
        except RuntimeError:  # loop or threads have ended: what is left goes with the root
            remove()

    def start(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """Run `function` in a thread of the requests."""
        return asyncio.get_running_loop().run_in_executor(self._threads, function)

    async def finish(
        self,
        request: Request,
        work: asyncio.Future[Any],
        ticket: Ticket,
        held: contextlib.ExitStack,
        end: float,
        *,
        until: asyncio.Future[T] | None = None,
    ) -> Any:
        """The result of `work`, or of its first part `until`.

        If the client goes away, or the loop's clock passes `end` first, the work is abandoned, and what the
        request holds is given back when its thread has noticed.

        Raises:
            Gone: the client closed the connection.
            Busy: the deadline passed.
        """
        awaited = until or work
        gone = asyncio.ensure_future(disconnected(request))
        try:
            left = end - asyncio.get_running_loop().time()
            await asyncio.wait({awaited, gone}, timeout=max(0, left), return_when=asyncio.FIRST_COMPLETED)
            if awaited.done():
                return await result_of(awaited)
            raise Gone if gone.done() else self.late()
        finally:
            gone.cancel()
            if not awaited.done():
                abandon(work, ticket, held)

    async def tidy(self) -> None:
        """Hand memory back to the system when nothing has come and nothing is in work for a while. Until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(_IDLE_S / 5)
            if self._used is not None and clock() - self._used > _IDLE_S and not self.requests.taken:
                self._used = None
                await asyncio.to_thread(trim)

    def late(self) -> Busy:
        """What a request is told whose deadline passed."""
        return Busy(f"the request was not done in {self.limits.deadline_s:g} s")

    def deadline(self) -> float:
        """When a request that is complete now has to be answered, on the loop's clock."""
        return asyncio.get_running_loop().time() + self.limits.deadline_s


async def result_of(future: asyncio.Future[T]) -> T:
    """The result of work that is done. Raises Busy where memory was short, and Gone where it was cancelled."""
    try:
        return await future
    except (CancelledError, asyncio.CancelledError):
        raise Gone from None
    except MemoryError:
        raise Busy("the server has no memory for this scan at the moment") from None


def abandon(future: asyncio.Future[Any], ticket: Ticket, held: contextlib.ExitStack) -> None:
    """Stop the work on a request; what it holds is given back when its thread has ended."""
    ticket.cancel()
    kept = held.pop_all()

    def release(done: asyncio.Future[Any]) -> None:
        kept.close()
        if not done.cancelled():
            done.exception()  # seen: nobody is left to tell

    future.add_done_callback(release)


async def disconnected(request: Request) -> None:
    """Return when the client has closed the connection. The body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
