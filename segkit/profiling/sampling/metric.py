"""One quantity of a device that may be had in several ways, or in none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from segkit.profiling.sampling.nvml import NO_FUNCTION, NvmlError

T = TypeVar("T")
PATIENCE = 10  # failures in a row after which a way counts as closed


class Metric(Generic[T]):
    """Reads by the first way that works. When none is left it is None for good, and the reason is noted.

    A way is a call that raises NvmlError. If the answer would be the same next time, or ten in a row failed, the next
    way is tried; what went wrong once (a busy driver) only costs that one value.
    """

    def __init__(self, note: Callable[[str], None], *ways: Callable[[], T]) -> None:
        """`note` takes the reason, once; no ways: it is up to the caller to note one."""
        self._note, self._ways = note, list(ways)
        self._failures = 0
        self._why = ""
        self._vague = False
        self._ever = False

    def read(self) -> T | None:
        """The value now, None where there is none. Raises NvmlError only where the device is lost."""
        while self._ways:
            try:
                value = self._ways[0]()
            except NvmlError as error:
                if error.lost:
                    raise
                self._explain(error)
                self._failures += 1
                if not error.lasting and self._failures < PATIENCE:
                    return None
                self._drop()
            else:
                self._failures, self._ever, self._why = 0, True, ""
                return value
        return None

    def close(self) -> None:
        """Note the reason where there never was a value."""
        if self._ways and not self._ever and self._why:
            self._note(self._why)

    def _explain(self, error: NvmlError) -> None:
        """Keep the first reason, unless it is only that the call is not there, and a later way tells more."""
        if not self._why or self._vague:
            self._why, self._vague = error.why, error.code == NO_FUNCTION

    def _drop(self) -> None:
        self._ways.pop(0)
        self._failures = 0
        if not self._ways:
            self._note(self._why if not self._ever else f"{self._why} (since some time into the run)")
