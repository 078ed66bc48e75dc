"""Server-sent events: the scan as soon as it is read, the progress, then the result.

    event: scan      shape, spacing, channels, classes and their colours
    event: pixels    some slices of the scan (with ?pixels=true)
    event: progress  slices done, slices in all
    event: result    measures, the mask's voxels, and the mask as a file
    event: error     status and sentence, where it ends without a result

Binary data are zlib-compressed and base64. Voxels are in C order: slice, row, column, channel.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from segkit.imaging.overlay import COLOURS
from segkit.imaging.scan import Scan
from segkit.serving.access_log import note
from segkit.serving.answers import mask_answer, measures
from segkit.serving.engine import Engine, Job, abandon, result_of
from segkit.serving.errors import RequestError
from segkit.serving.view import View, view_of

_CHUNK = 2**22  # bytes of pixels in one event, before packing
_TICK_S = 0.2  # between looks at the progress
_QUIET_S = 10.0  # without progress: a comment is sent, so that nothing between takes the connection for dead

Held = contextlib.ExitStack


class EventStream:
    """The answer to one request, as it comes into being."""

    def __init__(self, engine: Engine, job: Job, pixels: bool) -> None:
        self._engine = engine
        self._ticket = job.ticket
        self._pixels = pixels
        self._loop = asyncio.get_running_loop()
        self._read: asyncio.Future[Scan] = self._loop.create_future()
        self._job = replace(job, on_scan=self._on_scan)

    async def response(self, request: Request, held: Held, end: float) -> Response:
        """The stream; an error before the scan is read is raised instead, and gets its own status."""
        work = self._engine.start(self._work)
        first = asyncio.ensure_future(_first(self._read, work))
        await self._engine.finish(request, work, self._ticket, held, end, until=first)
        kept = held.pop_all()
        return _Events(self._events(request, work, end), lambda: self._release(work, kept))

    def _release(self, work: asyncio.Future[str], held: Held) -> None:
        if work.done():
            held.close()
        else:
            abandon(work, self._ticket, held)

    def _on_scan(self, scan: Scan) -> None:
        """From the request's thread."""
        self._loop.call_soon_threadsafe(self._set_read, scan)

    def _set_read(self, scan: Scan) -> None:
        if not self._read.done():
            self._read.set_result(scan)

    def _work(self) -> str:
        job = self._job
        done = self._engine.segment(job)
        answer = mask_answer(done, job.served, "")
        file = {"name": answer.file, "media_type": answer.media_type, "data": _text(answer.content)}
        content = {**measures(done, job.served), "mask": _packed(done.result.mask), "file": file}
        return _event("result", content)

    async def _events(self, request: Request, work: asyncio.Future[str], end: float) -> AsyncIterator[str]:
        try:
            scan = self._read.result()
            view = await asyncio.to_thread(view_of, scan)
            yield _event("scan", self._describe(scan, view))
            if self._pixels:
                async for event in _pixel_events(view):
                    yield event
            async for event in self._progress(work, scan.shape[0], end):
                yield event
            if not work.done():
                raise self._engine.late()
            yield await result_of(work)
            note(request, slices=scan.shape[0])
        except RequestError as error:
            note(request, status=error.status)
            yield _error(error)
        except Exception:
            note(request, status=500)
            yield _error(RequestError(500, "an error of the server; its log says more"))
            raise

    async def _progress(self, work: asyncio.Future[str], slices: int, end: float) -> AsyncIterator[str]:
        told, at = -1, self._loop.time()
        while not work.done() and self._loop.time() < end:
            if self._ticket.done != told:
                told, at = self._ticket.done, self._loop.time()
                yield _event("progress", {"done": told, "slices": slices})
            elif self._loop.time() - at > _QUIET_S:
                at = self._loop.time()
                yield ": still at work\n\n"
            await asyncio.wait({work}, timeout=_TICK_S)
        if work.done() and not work.cancelled() and work.exception() is None:
            yield _event("progress", {"done": slices, "slices": slices})

    def _describe(self, scan: Scan, view: View) -> dict[str, Any]:
        served = self._job.served
        classes = served.model.metadata.classes
        return {
            "model": served.name,
            "version": served.version,
            "kind": scan.kind,
            "shape": list(scan.shape),
            "spacing_mm": scan.spacing and list(scan.spacing),
            "channels": list(view.channels),
            "dtype": str(view.pixels.dtype),
            "slope": view.slope,
            "intercept": view.intercept,
            "oriented": scan.affine is not None,
            "classes": list(classes),
            "colours": ["#{:02x}{:02x}{:02x}".format(*COLOURS[i % len(COLOURS)]) for i in range(len(classes) - 1)],
        }


class _Events(StreamingResponse):
    """A stream that gives back what its request holds, even if the client leaves before the first event."""

    def __init__(self, events: AsyncIterator[str], release: Callable[[], None]) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        self._release = release

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._release()


async def _first(read: asyncio.Future[Scan], work: asyncio.Future[str]) -> None:
    """Return when the scan is read, or raise what kept it from being read."""
    await asyncio.wait((read, work), return_when=asyncio.FIRST_COMPLETED)
    if work.done():
        work.result()


async def _pixel_events(view: View) -> AsyncIterator[str]:
    step = max(1, _CHUNK // max(1, view.pixels[:1].nbytes))
    for start in range(0, len(view.pixels), step):
        part = view.pixels[start : start + step]
        data = await asyncio.to_thread(_packed, part)
        yield _event("pixels", {"first": start, "slices": len(part), "data": data})


def _packed(array: NDArray[Any]) -> str:
    return _text(zlib.compress(np.ascontiguousarray(array).tobytes(), 1))


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _error(error: RequestError) -> str:
    return _event("error", {"status": error.status, "error": error.reason})


def _event(name: str, content: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(content)}\n\n"
