"""The body of a request, as it comes: never more of it than allowed, never slower than patience has."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Protocol

from starlette.requests import ClientDisconnect, Request

from segkit.serving.budget import Share
from segkit.serving.config import Limits
from segkit.serving.errors import Gone, RequestError

_STEP = 2**16  # bytes that are unpacked at once
_WINDOWS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


class _Decoder(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def unconsumed_tail(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = 0, /) -> bytes: ...


async def chunks(request: Request, limits: Limits, share: Share) -> AsyncIterator[bytes]:
    """The body, unpacked if it says that it is packed, in pieces of bounded size; `share` grows with it.

    Raises:
        RequestError: 413 too long, 415 an unknown encoding, 400 damaged packing, 408 too slow.
        Busy: the bodies of other requests leave no room.
        Gone: the client closed the connection.
    """
    _check_length(request, limits)
    decoder = _decoder(request)
    total = 0
    async for received in _received(request, limits):
        for piece in _unpacked(decoder, received) if decoder else (received,):
            total += len(piece)
            if total > limits.body_bytes:
                raise _too_long(limits)
            share.grow_to(total)
            yield piece
    if decoder is not None and not decoder.eof:
        raise RequestError(400, "the body ends before its compressed content does")


async def whole(request: Request, limits: Limits, share: Share) -> bytes:
    """The body in memory. Raises as `chunks`."""
    return b"".join([piece async for piece in chunks(request, limits, share)])


async def _received(request: Request, limits: Limits) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    began = loop.time()
    count = 0
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout_at(began + limits.patience(count)):
                received = await anext(stream, None)
        except TimeoutError:
            raise RequestError(
                408, f"the body comes slower than {limits.min_kb_per_s:g} kB/s", {"Connection": "close"}
            ) from None
        except ClientDisconnect:
            raise Gone from None
        if received is None:
            return
        count += len(received)
        if received:
            yield received


def _check_length(request: Request, limits: Limits) -> None:
    """Refuse by the header what would be refused later, before a byte of it is read."""
    claimed = request.headers.get("content-length", "")
    if claimed.isdecimal() and int(claimed) > limits.body_bytes:
        raise _too_long(limits)


def _too_long(limits: Limits) -> RequestError:
    return RequestError(413, f"the body is longer than {limits.max_body_mb:g} MB")


def _decoder(request: Request) -> _Decoder | None:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding == "identity":
        return None
    if encoding not in _WINDOWS:
        raise RequestError(415, "the body's Content-Encoding is none of gzip, deflate and identity")
    return zlib.decompressobj(_WINDOWS[encoding])


def _unpacked(decoder: _Decoder, data: bytes) -> Iterator[bytes]:
    """What `data` unpacks to, in pieces, so that a bomb is noticed before it is large."""
    try:
        while data and not decoder.eof:
            piece = decoder.decompress(data, _STEP)
            data = decoder.unconsumed_tail
            yield piece
    except zlib.error:
        raise RequestError(400, "the body is not compressed as its Content-Encoding says") from None
