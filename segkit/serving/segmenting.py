"""`POST /segment`: a scan in, what the client wants to know of it out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from segkit.inference.segmenter import Slicing
from segkit.serving import negotiate
from segkit.serving.access_log import note
from segkit.serving.answers import Answer, mask_answer, measures_answer, overlay_answer
from segkit.serving.engine import Engine, Job
from segkit.serving.errors import RequestError
from segkit.serving.events import EventStream
from segkit.serving.models import ModelStore, Served
from segkit.serving.study import check_picks
from segkit.serving.ticket import Ticket
from segkit.serving.upload import SEQUENCES, Inspector, receive

_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off", "")
_OPTIONS = ("model", "version", "answer", "largest_component", "by_slice", "pixels", *SEQUENCES)


@dataclass(frozen=True)
class Options:
    """The query of a request."""

    model: str
    version: str
    answer: str
    suffix: str
    largest: bool
    by_slice: bool
    pixels: bool
    picks: Mapping[str, str]

    @classmethod
    def from_request(cls, request: Request) -> Options:
        """Raises RequestError 400 or 406."""
        query = request.query_params
        for key in query:
            if key not in _OPTIONS:
                raise RequestError(400, f"the query has something else than {', '.join(_OPTIONS)}")
        picks = {role: query[role] for role in SEQUENCES if role in query}
        check_picks(picks)
        answer, suffix = negotiate.wanted_answer(request.headers.get("accept", ""), query.get("answer", ""))
        return cls(
            query.get("model", ""),
            query.get("version", ""),
            answer,
            suffix,
            _flag(request, "largest_component"),
            _flag(request, "by_slice"),
            _flag(request, "pixels"),
            picks,
        )


async def segment(request: Request, engine: Engine, store: ModelStore) -> Response:
    """Answer one scan. Raises RequestError for whatever is wrong with it, and Busy where there is no room."""
    options = Options.from_request(request)
    served = store.get(options.model, options.version)
    note(request, model=served.name, version=served.version)
    ticket = Ticket()
    try:
        with engine.hold() as held:
            folder = engine.folder(held)
            bodies = held.enter_context(engine.bodies.share())
            await receive(request, folder, engine.limits, bodies)
            end = engine.deadline()
            values = held.enter_context(engine.values.share())
            channels = served.model.metadata.channels
            inspector = Inspector(folder, engine.limits, bodies, channels, options.picks)
            slicing = Slicing(by_slice=options.by_slice)
            job = Job(inspector, served, ticket, values, slicing, options.largest)
            if options.answer == negotiate.EVENTS:
                return await EventStream(engine, job, options.pixels).response(request, held, end)
            future = engine.start(partial(_answer, engine, job, options))
            answer, slices = await engine.finish(request, future, ticket, held, end)
    finally:
        if ticket.format:
            note(request, format=ticket.format)
    note(request, slices=slices, queue_ms=_ms(ticket.queue_s), compute_ms=_ms(ticket.compute_s))
    return _response(answer, served)


def _answer(engine: Engine, job: Job, options: Options) -> tuple[Answer, int]:
    done = engine.segment(job)
    if options.answer == negotiate.MEASURES:
        answer = measures_answer(done, job.served)
    elif options.answer == negotiate.OVERLAY:
        answer = overlay_answer(done, job.served)
    else:
        answer = mask_answer(done, job.served, options.suffix)
    return answer, len(done.result.mask)


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
