"""Where each training step's time went, as the host sees it: one record a step, one JSON line a record."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType


@dataclass
class StepRecord:
    """One step, in seconds. What the host cannot know is None, never 0."""

    epoch: int
    step: int
    wait_s: float  # for the loader
    copy_s: float  # batch to device; on a GPU only the time to enqueue it
    compute_s: float | None  # forward, backward, optimiser; None on a GPU, where the host only enqueues
    gap_s: float | None  # idle time on the device's own timeline
    sync_s: float | None  # gradient all-reduce, where it can be told apart
    images: int


class Stopwatch:
    """Adds up the seconds spent inside `with` blocks until it is read."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._started = 0.0

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seconds += time.perf_counter() - self._started

    def take(self) -> float:
        """The seconds so far; starts again from 0."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds


class StepClock:
    """Times the parts of each step and writes the records of one rank."""

    def __init__(self, path: Path, *, on_host: bool) -> None:
        self.path = path
        self.wait, self.copy, self.compute = Stopwatch(), Stopwatch(), Stopwatch()
        self._on_host = on_host  # whether the host's clock times the computation itself
        self._pending: list[StepRecord] = []

    def record(self, epoch: int, step: int, images: int) -> StepRecord:
        """Close a step."""
        compute = self.compute.take()
        record = StepRecord(
            epoch,
            step,
            self.wait.take(),
            self.copy.take(),
            compute if self._on_host else None,
            None,
            None,
            images,
        )
        self._pending.append(record)
        return record

    def flush(self) -> None:
        """Append the records since the last flush to the file."""
        lines = [json.dumps(asdict(record)) + "\n" for record in self._pending]
        self._pending.clear()
        if lines:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(lines)
