"""uvicorn's HTTP protocol, with the limits on a connection that it lacks."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from segkit.serving.config import Limits

_MAX_HEAD = 2**16  # bytes of the request line and the headers
_LINGER_S = 2.0  # how long a client that was refused may go on sending before the connection is cut
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class GuardedProtocol(HttpToolsProtocol):
    """Cuts connections whose headers do not come, are endless, or whose answers are not read."""

    limits = Limits()

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._head_bytes = 0
        self._in_head = True
        self._sending = False  # whether the client is in the middle of a request
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._linger_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        for name in ("_head_timer", "_write_timer", "_linger_timer"):
            self._stop(name)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.parser is None or self.transport.is_closing():
            return
        if self._in_head:
            self._head_bytes += min(len(data), _MAX_HEAD)
            if self._head_timer is None:  # the next request of a connection that is kept alive
                self._await_head()
        super().data_received(data)
        # Within one piece the end of the headers may have come: only what is still open counts.
        if self._in_head and self._head_bytes > _MAX_HEAD and not self.transport.is_closing():
            self._refuse(_TOO_LARGE)

    def on_message_begin(self) -> None:
        self._sending = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop("_head_timer")
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._sending, self._in_head, self._head_bytes = False, True, 0
        self._stop("_linger_timer")
        super().on_message_complete()

    def on_response_complete(self) -> None:
        if self._sending and not self.transport.is_closing():
            # Refused before its body was there. The rest is read for a moment, because a connection that is
            # closed on unread bytes is reset, and the client would never see why it was refused.
            self._linger_timer = self.loop.call_later(_LINGER_S, self.transport.abort)
        super().on_response_complete()
        if self._linger_timer is not None:
            self._unset_keepalive_if_required()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._write_timer is None:
            patience = self.limits.patience(self.transport.get_write_buffer_size())
            self._write_timer = self.loop.call_later(patience, self.transport.abort)

    def resume_writing(self) -> None:
        self._stop("_write_timer")
        super().resume_writing()

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self.limits.grace_s, self._head_late)

    def _head_late(self) -> None:
        if not self.transport.is_closing():
            self._refuse(_TOO_SLOW if self._head_bytes else b"")

    def _refuse(self, answer: bytes) -> None:
        self.transport.write(answer)
        self.transport.close()

    def _stop(self, name: str) -> None:
        timer = getattr(self, name)
        if timer is not None:
            timer.cancel()
            setattr(self, name, None)


def guarded(limits: Limits) -> type[GuardedProtocol]:
    """The protocol with these limits."""
    return type("GuardedProtocol", (GuardedProtocol,), {"limits": limits})
