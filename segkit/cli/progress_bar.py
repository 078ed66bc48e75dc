"""A bar, or a line, on stderr for work that takes a while, in a terminal only."""

from __future__ import annotations

import sys
import time

_PATIENCE = 1.0  # seconds before a bar is worth showing
_REFRESH = 0.1
_WIDTH = 30


class ProgressBar:
    """Called with what is done and the whole; draws itself at most ten times a second."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._live = sys.stderr is not None and sys.stderr.isatty()
        self._started = time.perf_counter()
        self._drawn = self._started - _REFRESH + _PATIENCE
        self._shown = False

    def __call__(self, done: int, total: int) -> None:
        """Draw if it is time."""
        now = time.perf_counter()
        if not self._live or now - self._drawn < _REFRESH:
            return
        self._drawn, self._shown = now, True
        filled = _WIDTH * done // max(1, total)
        left = (now - self._started) * (total - done) / max(1, done)
        bar = "#" * filled + "-" * (_WIDTH - filled)
        print(f"\r{self._what} [{bar}] {done}/{total}, {left:.0f} s left\x1b[K", end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Take the bar away."""
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._shown = False


def show_progress(text: str) -> None:
    """Write the text over the one before; an empty one takes it away."""
    if sys.stderr.isatty():
        print(f"\r{text}\x1b[K", end="", file=sys.stderr, flush=True)
