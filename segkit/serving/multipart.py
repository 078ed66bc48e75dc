"""Forms with files (`curl -F`, browsers): each part goes to its own sink as it comes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from email.message import Message
from typing import BinaryIO

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser

from segkit.serving.errors import RequestError

_MAX_HEADER = 8192  # bytes of the headers of one part


class FormReader:
    """Writes the parts of a multipart form to files that `open_part` gives for their field names."""

    def __init__(self, content_type: str, open_part: Callable[[str], BinaryIO]) -> None:
        """Raises RequestError 400 where the header names no boundary."""
        boundary = _parameter(content_type, "boundary")
        if not boundary or len(boundary) > 200:
            raise RequestError(400, "the multipart form has no boundary in its Content-Type")
        self._open_part = open_part
        self._sink: BinaryIO | None = None
        self._headers: dict[str, str] = {}
        self._field, self._value = bytearray(), bytearray()
        self._size = 0
        self._ended = False
        self._parser = MultipartParser(
            boundary.encode("latin-1", "replace"),
            {
                "on_part_begin": self._on_begin,
                "on_header_field": self._on_field,
                "on_header_value": self._on_value,
                "on_header_end": self._on_header,
                "on_headers_finished": self._on_headers,
                "on_part_data": self._on_data,
                "on_part_end": self._on_end,
                "on_end": self._on_form_end,
            },
        )

    async def read(self, pieces: AsyncIterator[bytes]) -> None:
        """Read the form. Raises RequestError 400 where it is none."""
        try:
            async for piece in pieces:
                self._parser.write(piece)
        except MultipartParseError:
            raise RequestError(400, "the multipart form is damaged") from None
        finally:
            self._on_end()
        if not self._ended:
            raise RequestError(400, "the multipart form has no end")

    def _on_begin(self) -> None:
        self._headers, self._size = {}, 0
        self._field, self._value = bytearray(), bytearray()

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._grow(self._field, data[start:end])

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._grow(self._value, data[start:end])

    def _grow(self, buffer: bytearray, data: bytes) -> None:
        buffer += data
        self._size += len(data)
        if self._size > _MAX_HEADER:
            raise RequestError(400, "a part of the multipart form has headers that are too long")

    def _on_header(self) -> None:
        name = self._field.decode("latin-1").lower()
        self._headers[name] = self._value.decode("utf-8", "replace")
        self._field, self._value = bytearray(), bytearray()

    def _on_headers(self) -> None:
        self._sink = self._open_part(_parameter(self._headers.get("content-disposition", ""), "name"))

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._sink is not None:
            self._sink.write(data[start:end])

    def _on_end(self) -> None:
        if self._sink is not None:
            self._sink.close()
            self._sink = None

    def _on_form_end(self) -> None:
        self._ended = True


def _parameter(header: str, name: str) -> str:
    """A parameter of a header such as `form-data; name="scan"`; empty without it."""
    message = Message()
    message["Content-Type"] = header.replace("\r", " ").replace("\n", " ")
    value = message.get_param(name)
    return value if isinstance(value, str) else ""
