"""What the last steps looked like, for the live line."""

from __future__ import annotations

from collections import deque

from segkit.profiling.records import StepRecord


class Shares:
    """What the last steps looked like, and all of them since `begin_epoch`."""

    def __init__(self, steps: int = 200) -> None:
        self._last: deque[tuple[float, float]] = deque(maxlen=steps)
        self._starved = self._period = 0.0

    def add(self, record: StepRecord) -> None:
        """Count a step."""
        self._last.append((record.starved_s, record.step_s))
        self._starved += record.starved_s
        self._period += record.step_s

    def begin_epoch(self) -> None:
        """Start `epoch_starved` again."""
        self._starved = self._period = 0.0

    @property
    def starved(self) -> float:
        """Share of the time of the last steps in which the device waited for the loader."""
        return sum(starved for starved, _ in self._last) / max(sum(period for _, period in self._last), 1e-9)

    @property
    def epoch_starved(self) -> float:
        """The same, over all steps of the epoch."""
        return self._starved / max(self._period, 1e-9)
