"""Points in time on a device: the host's clock for a CPU, events in the stream for CUDA."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch

Mark = Any  # what a timeline's `mark` gives; means nothing to others


class Timeline(Protocol):
    """Sets marks without waiting for the device, and tells the time between two once it has passed both."""

    def mark(self) -> Mark:
        """A mark behind all work that was given to the device so far."""

    def passed(self, mark: Mark) -> bool:
        """Whether the device has come to the mark; does not wait."""

    def wait(self, mark: Mark) -> None:
        """Wait until the device has come to the mark."""

    def seconds(self, first: Mark, second: Mark) -> float:
        """Time between two marks that the device has passed."""

    def release(self, mark: Mark) -> None:
        """Give back a mark that is not needed any more."""


class HostTimeline:
    """For a CPU: the work is done when the call returns."""

    def mark(self) -> float:
        """Now."""
        return time.perf_counter()

    def passed(self, mark: float) -> bool:
        """Always."""
        return True

    def wait(self, mark: float) -> None:
        """Nothing to wait for."""

    def seconds(self, first: float, second: float) -> float:
        """Their difference."""
        return second - first

    def release(self, mark: float) -> None:
        """Nothing to give back."""


class CudaTimeline:
    """For a GPU: CUDA events in the current stream. Recording one costs the host a few microseconds."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._free: list[Any] = []

    def mark(self) -> Any:
        """An event behind the work in the device's current stream."""
        import torch

        event = self._free.pop() if self._free else torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        return event

    def passed(self, mark: Any) -> bool:
        """Whether the event has been reached."""
        return bool(mark.query())

    def wait(self, mark: Any) -> None:
        """Block the host until it has."""
        mark.synchronize()

    def seconds(self, first: Any, second: Any) -> float:
        """CUDA counts in milliseconds, to about half a microsecond."""
        return float(first.elapsed_time(second)) / 1000

    def release(self, mark: Any) -> None:
        """Keep the event for another mark."""
        self._free.append(mark)


def timeline_of(device: torch.device | None) -> Timeline:
    """The timeline of a torch device; None: of the host."""
    return CudaTimeline(device) if device is not None and device.type == "cuda" else HostTimeline()
