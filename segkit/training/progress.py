"""The live line and the line an epoch."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field

REFRESH_SECONDS = 0.25
PLAIN_SECONDS = 30.0  # between lines where the output is a file


@dataclass
class Progress:
    """Prints to stdout: one line that is redrawn in a terminal, a line now and then elsewhere."""

    epochs: int
    images_total: int  # of the whole run, for the time left
    enabled: bool
    images_done: int = 0
    started: float = 0.0
    _images_here: int = 0
    _drawn: float = 0.0
    _live: bool = field(default_factory=sys.stdout.isatty)

    def begin(self, images_done: int) -> None:
        """Start the clock, with the images that an earlier session of the run has done."""
        self.images_done = images_done
        self.started = self._drawn = time.perf_counter()

    def step(self, images: int) -> bool:
        """Count a step of `images` (over all ranks). True: it is time to `show` the line."""
        self.images_done += images
        self._images_here += images
        if not self.enabled:
            return False
        return time.perf_counter() - self._drawn >= (REFRESH_SECONDS if self._live else PLAIN_SECONDS)

    def show(self, *, epoch: int, loss: float | None, dice: float | None, profile: str) -> None:
        """Draw the line; `profile` is what the profiler has to say of the last steps."""
        self._drawn = now = time.perf_counter()
        self._draw(self._text(epoch, now, loss, dice, profile))

    def _text(self, epoch: int, now: float, loss: float | None, dice: float | None, profile: str) -> str:
        elapsed = max(now - self.started, 1e-9)
        rate = self._images_here / elapsed
        left = (self.images_total - self.images_done) / rate if rate else 0.0
        return (
            f"epoch {epoch + 1}/{self.epochs}  {rate:6.1f} images/s  loss {_number(loss)}  dice {_number(dice)}  "
            f"{profile}  left {duration(left)}"
        )

    def _draw(self, text: str) -> None:
        if self._live:
            print(f"\r{text}\x1b[K", end="", flush=True)
        else:
            print(text, flush=True)

    def line(self, text: str) -> None:
        """Print a line of its own, over the live line."""
        if self.enabled:
            print(f"\r{text}\x1b[K" if self._live else text, flush=True)


def _number(value: float | None) -> str:
    return "  -  " if value is None else f"{value:.3f}"


def duration(seconds: float) -> str:
    """Seconds as 45s, 3m05s or 2h07m."""
    whole = round(max(0.0, seconds))
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes}m{rest:02}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02}m"
