"""The Open Inference Protocol (KServe v2) over HTTP, as tritonclient speaks it."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from segkit import __version__
from segkit.inference.model_config import model_config
from segkit.model_metadata import INPUT, MASK, PROBABILITY
from segkit.serving import body
from segkit.serving.access_log import note
from segkit.serving.auth import Guard
from segkit.serving.engine import Engine
from segkit.serving.errors import RequestError
from segkit.serving.models import ModelStore, Served
from segkit.serving.tensors import HEADER, InferRequest, parse, render
from segkit.serving.ticket import Ticket

EXTENSIONS = ("binary_tensor_data", "model_configuration", "model_repository")


class InferenceProtocol:
    """The handlers of /v2."""

    def __init__(self, engine: Engine, store: ModelStore, guard: Guard) -> None:
        self._engine = engine
        self._store = store
        self._guard = guard

    async def server(self, request: Request) -> Response:
        """Name, version and extensions."""
        return JSONResponse({"name": "segkit", "version": __version__, "extensions": list(EXTENSIONS)})

    async def live(self, request: Request) -> Response:
        """The process answers."""
        return JSONResponse({"live": True})

    async def ready(self, request: Request) -> Response:
        """All models that are wanted are loaded."""
        ready = self._store.ready
        return JSONResponse({"ready": ready}, 200 if ready else 503)

    async def model_ready(self, request: Request) -> Response:
        """The model, or this version of it, is loaded."""
        served = self._served(request)
        return JSONResponse({"name": served.name, "ready": True})

    async def model(self, request: Request) -> Response:
        """The tensors of a model."""
        served = self._served(request)
        metadata = served.model.metadata
        channels, classes = len(metadata.channels), len(metadata.classes)
        described = {
            "name": served.name,
            "versions": [other.version for other in self._store.versions(served.name)],
            "platform": "onnxruntime_onnx",
            "inputs": [{"name": INPUT, "datatype": "UINT8", "shape": [-1, -1, -1, channels]}],
            "outputs": [
                {"name": MASK, "datatype": "UINT8", "shape": [-1, -1, -1]},
                {"name": PROBABILITY, "datatype": "FP32", "shape": [-1, classes, -1, -1]},
            ],
            "parameters": {key: str(value) for key, value in metadata.to_props().items()},
        }
        return JSONResponse(described)

    async def config(self, request: Request) -> Response:
        """The configuration that Triton would have for the model."""
        served = self._served(request)
        fields = model_config(served.name, served.model.metadata)
        del fields["model_warmup"]  # a map, which JSON writes otherwise; here each model is warm anyway
        return JSONResponse(fields)

    async def infer(self, request: Request) -> Response:
        """Run a model on a tensor."""
        served = self._served(request)
        note(request, model=served.name, version=served.version)
        engine = self._engine
        with engine.hold() as held:
            content = await body.whole(request, engine.limits, held.enter_context(engine.bodies.share()))
            end = engine.deadline()
            ticket = Ticket()
            header = request.headers.get(HEADER.lower())
            parsing = engine.start(partial(parse, content, header, served.model.metadata, engine.limits))
            parsed: InferRequest = await engine.finish(request, parsing, ticket, held, end)
            if parsed.timeout_s is not None:
                end = min(end, asyncio.get_running_loop().time() + parsed.timeout_s)
            held.enter_context(engine.values.share(parsed.images.size))
            work = engine.batcher.submit(served, parsed.images, parsed.outputs, ticket)
            ticket.attach(work)
            arrays = await engine.finish(request, asyncio.wrap_future(work), ticket, held, end)
            note(request, slices=len(parsed.images), queue_ms=round(1000 * ticket.queue_s, 1))
            note(request, compute_ms=round(1000 * ticket.compute_s, 1))
            return await asyncio.to_thread(_response, request, parsed, served, arrays)

    async def index(self, request: Request) -> Response:
        """All models and their states."""
        return JSONResponse(self._store.index())

    async def load(self, request: Request) -> Response:
        """Load a model again from its file."""
        self._guard.check_admin(request)
        content = await self._json(request)
        if content.get("parameters"):
            raise RequestError(400, "parameters of a load (config, file:...) are not taken")
        name = request.path_params["name"]
        await asyncio.to_thread(self._store.load, name)
        return Response()

    async def unload(self, request: Request) -> Response:
        """Serve a model no more."""
        self._guard.check_admin(request)
        await self._json(request)
        await asyncio.to_thread(self._store.unload, request.path_params["name"])
        return Response()

    def _served(self, request: Request) -> Served:
        return self._store.get(request.path_params["name"], request.path_params.get("version"))

    async def _json(self, request: Request) -> dict[str, Any]:
        """A small JSON object, or nothing, in the body."""
        with self._engine.bodies.share() as share:
            content = await body.whole(request, self._engine.limits, share)
        if not content.strip():
            return {}
        try:
            value = await asyncio.to_thread(_loads, content)
        except (ValueError, RecursionError):
            raise RequestError(400, "the body is not JSON") from None
        if not isinstance(value, dict):
            raise RequestError(400, "the body is no JSON object")
        return value


def _loads(content: bytes) -> Any:
    if len(content) > 2**16:
        raise RequestError(413, "the body is longer than 64 kB")
    return json.loads(content)


def _response(request: Request, parsed: InferRequest, served: Served, arrays: dict[str, Any]) -> Response:
    content, length = render(parsed, served.name, served.version, arrays)
    headers = {HEADER: str(length)} if length else {}
    accepted = request.headers.get("accept-encoding", "").lower()
    if "gzip" in accepted:
        content, headers["Content-Encoding"] = gzip.compress(content, 1), "gzip"
    elif "deflate" in accepted:
        content, headers["Content-Encoding"] = zlib.compress(content, 1), "deflate"
    return Response(content, media_type="application/octet-stream" if length else "application/json", headers=headers)
