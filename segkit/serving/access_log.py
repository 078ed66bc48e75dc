"""One JSON line for each request: what it cost, never what was in it or what it was called."""

from __future__ import annotations

import json
import logging
import time
import uuid
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from segkit.serving.metrics import Metrics

_NOTES = "segkit.notes"
access = logging.getLogger("segkit.access")


def note(request: Request, **values: Any) -> None:
    """Add to the line of this request; no names of files and no contents."""
    request.scope.setdefault(_NOTES, {}).update(values)


class AccessLog:
    """ASGI middleware: measures each request, logs it, counts it, and numbers it for those who ask about it."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        number = uuid.uuid4().hex[:16]
        notes: dict[str, Any] = scope.setdefault(_NOTES, {})
        sent = {"status": 0, "bytes": 0}
        received = 0

        async def counting_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message

        async def counting_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                sent["status"] = message["status"]
                message = {**message, "headers": [*message["headers"], (b"x-request-id", number.encode())]}
            sent["bytes"] += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, counting_receive, counting_send)
        finally:
            seconds = time.perf_counter() - began
            route = getattr(scope.get("route"), "path", "other")
            status = notes.pop("status", sent["status"] or 500)
            self._metrics.observe_request(route, status, seconds)
            line = {
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "id": number,
                "client": (scope.get("client") or ("",))[0],
                "method": scope["method"],
                "route": route,
                "status": status,
                "ms": round(1000 * seconds, 1),
                "received": received,
                "sent": sent["bytes"],
                **notes,
            }
            access.info(json.dumps(line))
