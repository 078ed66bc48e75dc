"""The application: its routes, who may call them, and how errors are told."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route

from segkit.serving.access_log import AccessLog, note
from segkit.serving.auth import Guard
from segkit.serving.config import BatchConfig, Limits, ServerConfig
from segkit.serving.engine import Engine
from segkit.serving.errors import Gone, RequestError
from segkit.serving.metrics import CONTENT_TYPE, Metrics
from segkit.serving.models import ModelStore
from segkit.serving.oip import InferenceProtocol
from segkit.serving.openapi import description
from segkit.serving.segmenting import segment

PAGE = Path(__file__).parent / "page"
_FILES = {
    path.name: media_type
    for suffix, media_type in ((".html", "text/html"), (".css", "text/css"), (".js", "text/javascript"))
    for path in sorted(PAGE.glob(f"*{suffix}"))
}
# The page loads nothing from elsewhere, is framed by nobody, and tells nobody where it is.
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}

Handler = Callable[[Request], Awaitable[Response]]
_log = logging.getLogger("segkit.serving")


def build_app(
    server: ServerConfig, batch: BatchConfig, limits: Limits, store: ModelStore, metrics: Metrics
) -> Starlette:
    """The ASGI application over loaded models. Raises SegkitError for tokens that cannot be used."""
    guard = Guard.from_config(server)
    engine = Engine(batch, limits, metrics)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(_watch(store, server.watch_s)), asyncio.create_task(engine.tidy())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.to_thread(engine.close)

    return Starlette(
        routes=_routes(engine, store, guard, metrics),
        middleware=[Middleware(AccessLog, metrics=metrics)],
        exception_handlers={
            RequestError: _tell,
            HTTPException: _tell_http,
            ClientDisconnect: _gone,
            Exception: _tell_bug,
        },
        lifespan=lifespan,
    )


def _routes(engine: Engine, store: ModelStore, guard: Guard, metrics: Metrics) -> list[BaseRoute]:
    protocol = InferenceProtocol(engine, store, guard)

    async def post_segment(request: Request) -> Response:
        return await segment(request, engine, store)

    async def get_metrics(request: Request) -> Response:
        return Response(await asyncio.to_thread(metrics.page), headers={"Content-Type": CONTENT_TYPE})

    async def get_models(request: Request) -> Response:
        return JSONResponse(_summaries(store))

    async def get_description(request: Request) -> Response:
        return JSONResponse(description())

    def only(handler: Handler) -> Handler:
        """The handler, for those who may send scans."""

        async def checked(request: Request) -> Response:
            guard.check(request)
            return await handler(request)

        return checked

    def everyone(handler: Handler) -> Handler:
        """The handler, without a token: for probes, and for the page that asks for the token."""

        async def checked(request: Request) -> Response:
            guard.check_host(request)
            return await handler(request)

        return checked

    model = "/v2/models/{name}"
    version = model + "/versions/{version}"
    return [
        Route("/segment", only(post_segment), methods=["POST"]),
        Route("/models", only(get_models)),
        Route("/metrics", only(get_metrics)),
        Route("/openapi.json", everyone(get_description)),
        Route("/v2", only(protocol.server)),
        Route("/v2/health/live", everyone(protocol.live)),
        Route("/v2/health/ready", everyone(protocol.ready)),
        *[
            Route(prefix + path, only(handler), methods=methods)
            for prefix in (model, version)
            for path, handler, methods in (
                ("", protocol.model, ["GET"]),
                ("/ready", protocol.model_ready, ["GET"]),
                ("/config", protocol.config, ["GET"]),
                ("/infer", protocol.infer, ["POST"]),
            )
        ],
        Route("/v2/repository/index", only(protocol.index), methods=["POST"]),
        Route("/v2/repository/models/{name}/load", everyone(protocol.load), methods=["POST"]),
        Route("/v2/repository/models/{name}/unload", everyone(protocol.unload), methods=["POST"]),
        Route("/", everyone(_page("index.html"))),
        Route("/docs", everyone(_page("docs.html"))),
        *[Route(f"/page/{name}", everyone(_page(name))) for name in _FILES],
    ]


def _page(name: str) -> Handler:
    """A file of the page: a fixed one for each route, so that no path of a client is ever looked up."""

    async def handler(request: Request) -> Response:
        return FileResponse(PAGE / name, media_type=_FILES[name], headers=_PAGE_HEADERS)

    return handler


def _summaries(store: ModelStore) -> list[dict[str, object]]:
    """What the page shows of each model."""
    return [
        {
            "name": served.name,
            "version": served.version,
            "model": served.model.metadata.model,
            "width": served.model.metadata.width,
            "classes": served.model.metadata.classes,
            "channels": served.model.metadata.channels,
            "size": served.model.metadata.size,
            "device": served.model.device,
            "run_id": served.model.metadata.run_id,
            "licence": served.model.metadata.licence,
        }
        for name in store.names
        for served in store.versions(name)
    ]


async def _watch(store: ModelStore, every_s: float) -> None:
    """Look for new models until cancelled."""
    while every_s:
        await asyncio.sleep(every_s)
        try:
            await asyncio.to_thread(store.look)
        except Exception:
            _log.exception("looking for new models failed; the loaded ones are served on")


async def _tell(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    note(request, status=error.status, reason=type(error).__name__)
    # 499 is for the log; nobody reads this answer any more.
    status = 400 if error.status == 499 else error.status
    return JSONResponse({"error": error.reason}, status, error.headers)


async def _tell_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    reasons = {404: "there is nothing at this path", 405: "this path has other methods"}
    return JSONResponse({"error": reasons.get(error.status_code, error.detail)}, error.status_code, error.headers)


async def _gone(request: Request, error: Exception) -> Response:
    return await _tell(request, Gone())


async def _tell_bug(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "an error of the server; its log says more"}, 500)
