"""Signals that ask a run to save and stop: SIGTERM, SIGUSR1 (SLURM's warning) and Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

_warnings: list[int] = []  # signals that came while no `StopSignals` was there to note them


@contextlib.contextmanager
def warning_remembered() -> Iterator[None]:
    """While the block runs, a SIGUSR1 that comes before the first step counts at the first step.

    A batch system sends it once, and it would end a process that still imports or prepares. After the last step it does
    nothing: the rest is done, or the time limit ends it. Ctrl-C and SIGTERM end both at once, for nothing is lost.
    """
    if not hasattr(signal, "SIGUSR1") or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGUSR1, lambda number, frame: _warnings.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)
        _warnings.clear()


class StopSignals:
    """While the block runs, the signals only set `name`; the training loop acts between two steps."""

    NAMES = ("SIGTERM", "SIGINT", "SIGUSR1")

    def __init__(self) -> None:
        self.name = ""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if _warnings:
            self.name = signal.Signals(_warnings[0]).name
        if threading.current_thread() is threading.main_thread():  # Python allows handlers only there
            for name in self.NAMES:
                number = getattr(signal, name, None)
                if number is not None:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.name = signal.Signals(number).name
