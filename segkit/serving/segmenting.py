"""`POST /segment`: a scan in, what the client wants to know of it out."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from segkit.serving import negotiate
from segkit.serving.access_log import note
from segkit.serving.answers import Answer, mask_answer, measures_answer, overlay_answer
from segkit.serving.archive import unpacked_bytes
from segkit.serving.engine import Engine, Job
from segkit.serving.errors import RequestError
from segkit.serving.events import EventStream
from segkit.serving.models import ModelStore, Served
from segkit.serving.ticket import Ticket
from segkit.serving.upload import inspect, receive, zip_in

_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off", "")
_OPTIONS = ("model", "version", "answer", "largest_component", "pixels")


@dataclass(frozen=True)
class Options:
    """The query of a request."""

    model: str
    version: str
    answer: str
    suffix: str
    largest: bool
    pixels: bool

    @classmethod
    def from_request(cls, request: Request) -> Options:
        """Raises RequestError 400 or 406."""
        query = request.query_params
        for key in query:
            if key not in _OPTIONS:
                raise RequestError(400, f"the query has something else than {', '.join(_OPTIONS)}")
        answer, suffix = negotiate.wanted_answer(request.headers.get("accept", ""), query.get("answer", ""))
        return cls(
            query.get("model", ""),
            query.get("version", ""),
            answer,
            suffix,
            _flag(request, "largest_component"),
            _flag(request, "pixels"),
        )


async def segment(request: Request, engine: Engine, store: ModelStore) -> Response:
    """Answer one scan. Raises RequestError for whatever is wrong with it, and Busy where there is no room."""
    options = Options.from_request(request)
    served = store.get(options.model, options.version)
    note(request, model=served.name, version=served.version)
    with engine.hold() as held:
        folder = engine.folder(held)
        bodies = held.enter_context(engine.bodies.share())
        await receive(request, folder, engine.limits, bodies)
        end = engine.deadline()
        ticket = Ticket()
        if packed := zip_in(folder):
            bodies.grow_to(bodies.amount + await asyncio.to_thread(unpacked_bytes, packed, engine.limits))
        upload = await engine.finish(request, engine.start(lambda: inspect(folder, engine.limits)), ticket, held, end)
        note(request, format=upload.format)
        engine.take_values(held, upload.claims)
        if options.answer == negotiate.EVENTS:
            stream = EventStream(engine, upload, served, ticket, folder, options.largest, options.pixels)
            return await stream.response(request, held, end)
        job = Job(upload, served, ticket, options.largest)
        future = engine.start(partial(_answer, engine, job, options, folder))
        answer, slices = await engine.finish(request, future, ticket, held, end)
    note(request, slices=slices, queue_ms=_ms(ticket.queue_s), compute_ms=_ms(ticket.compute_s))
    return _response(answer, served)


def _answer(engine: Engine, job: Job, options: Options, folder: Path) -> tuple[Answer, int]:
    scan, result = engine.segment(job)
    if options.answer == negotiate.MEASURES:
        answer = measures_answer(result, scan, job.served)
    elif options.answer == negotiate.OVERLAY:
        answer = overlay_answer(result, scan, job.served)
    else:
        answer = mask_answer(result, scan, job.served, folder, job.upload.names, options.suffix)
    return answer, len(result.mask)


def _response(answer: Answer, served: Served) -> Response:
    headers = {"Vary": "Accept", "X-Model": f"{served.name}/{served.version}"}
    if answer.file:
        headers["Content-Disposition"] = f'attachment; filename="{answer.file}"'
    return Response(answer.content, media_type=answer.media_type, headers=headers)


def _flag(request: Request, name: str) -> bool:
    text = request.query_params.get(name, "").lower()
    if text not in (*_TRUE, *_FALSE):
        raise RequestError(400, f"{name} is neither true nor false")
    return text in _TRUE


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 1)
