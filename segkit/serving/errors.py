"""What a client is told when a request cannot be served: a status and one sentence."""

from __future__ import annotations

from segkit.errors import FileError, SegkitError

RETRY_AFTER_S = 2  # a batch of a U-Net takes well below this, so the queue has moved by then


class RequestError(Exception):
    """A request that gets `status` and the sentence `reason` instead of an answer."""

    def __init__(self, status: int, reason: str, headers: dict[str, str] | None = None) -> None:
        self.status = status
        self.reason = reason
        self.headers = headers or {}
        super().__init__(f"{status}: {reason}")


class Busy(RequestError):  # noqa: N818 - the field's word
    """No room at the moment; the same request may well be served a little later."""

    def __init__(self, reason: str) -> None:
        super().__init__(503, reason, {"Retry-After": str(RETRY_AFTER_S)})


class Gone(RequestError):  # noqa: N818 - nobody is left to be told of an error
    """The client went away. The status is only for the log: nobody is left to read it."""

    def __init__(self) -> None:
        super().__init__(499, "the client closed the connection")


def sentence_of(error: SegkitError, what: str) -> str:
    """The error's line with `what` in place of the file, whose path is the server's own business."""
    if not isinstance(error, FileError):
        return str(error)
    told = f"{error.reason}; {error.remedy}" if error.remedy else error.reason
    return f"{what} {told.replace(str(error.path), 'the file')}"
