"""Where each training step's time went, on the host and on the device's own timeline.

The loop says what it does next (`waiting`, `switch`, `end_step`); the clock sets a mark and goes on. On a GPU the marks
are CUDA events that are read some steps later, so that the loop is never synchronised.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from segkit.profiling.gradients import LastGradient
from segkit.profiling.records import LineFile, PhaseRecord, StepRecord
from segkit.profiling.shares import Shares
from segkit.profiling.timeline import Mark, Timeline, timeline_of

if TYPE_CHECKING:
    import torch

DEVICE_PARTS = ("copy", "compute", "sync", "optim")


class Clock(Protocol):
    """What a training loop needs of a clock."""

    def waiting(self) -> AbstractContextManager[None]:
        """Around the wait for the loader."""

    def switch(self, part: str | None) -> None:
        """The device's work from here on belongs to "copy", "compute", "sync", "optim", or to none of them."""


class NoClock:
    """For loops that nobody times."""

    def waiting(self) -> AbstractContextManager[None]:
        """Nothing is measured."""
        return contextlib.nullcontext()

    def switch(self, part: str | None) -> None:
        """Nothing is measured."""


@dataclass(slots=True)
class _Part:
    name: str
    start: Mark
    end: Mark = None
    ready: Mark = None  # the last gradient


@dataclass(slots=True)
class _OpenStep:
    """A step whose end the device may not have passed yet."""

    record: StepRecord
    parts: list[_Part]
    before: Mark | None  # the end of the device's work of the step before; None: the device was idle
    idle_s: float  # with `before` None: from the step's beginning to its first work, by the host's clock


class StepClock:
    """Times the steps of one rank and writes its records under `folder`."""

    def __init__(
        self,
        folder: Path | None,
        device: torch.device | None = None,
        *,
        rank: int = 0,
        timeline: Timeline | None = None,
    ) -> None:
        """Start the clock.

        Args:
            folder: where the records go; None: nowhere, `take_finished` gives them.
            device: whose timeline counts; None: the host's.
            rank: names the files.
            timeline: instead of the device's own.
        """
        self.recent = Shares()
        self._timeline = timeline or timeline_of(device)
        self._steps = LineFile(folder / f"steps-rank{rank}.jsonl") if folder else None
        self._phases = LineFile(folder / f"phases-rank{rank}.jsonl") if folder else None
        self._taken: list[StepRecord] = []
        self._open: deque[_OpenStep] = deque()
        self._parts: list[_Part] = []
        self._before: Mark | None = None
        self._wait = self._wait_cpu = self._idle = 0.0
        self.restart()

    def use(self, device: torch.device | None) -> None:
        """Measure on this device's timeline from here on."""
        self._settle(everything=True)
        self._timeline = timeline_of(device)
        self._parts, self._before = [], None

    # --- said by the loop ------------------------------------------------------------------------

    def restart(self) -> None:
        """A step begins here, with an idle device; the time since the last step is nobody's."""
        self.switch(None)
        self._parts.clear()
        self._before = None
        self._wait = self._wait_cpu = self._idle = 0.0
        self._began_at, self._began = time.time(), time.perf_counter()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Around the wait for the loader; ends the part that was open."""
        self.switch(None)
        began, cpu = time.perf_counter(), time.thread_time()
        try:
            yield
        finally:
            # The CPU's clock inside the wall's, so that no wait has more of the one than of the other.
            self._wait_cpu += time.thread_time() - cpu
            self._wait += time.perf_counter() - began

    def switch(self, part: str | None) -> None:
        """The device's work from here on belongs to "copy", "compute", "sync", "optim", or to none of them."""
        last = self._parts[-1] if self._parts else None
        is_open = last is not None and last.end is None
        if not is_open and part is None:
            return
        mark = self._timeline.mark()
        if last is not None and is_open:
            last.end = mark
        if part is not None:
            if last is None:
                self._idle = time.perf_counter() - self._began
            self._parts.append(_Part(part, mark))

    def gradient_ready(self) -> None:
        """The last gradient of a backward pass has been computed; what follows is their exchange between ranks."""
        if self._parts and self._parts[-1].end is None:
            self._parts[-1].ready = self._timeline.mark()

    def watch_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> LastGradient:
        """Call `gradient_ready` at each backward pass by itself; for a net whose gradients are exchanged by DDP.

        Returns:
            What listens; its `remove` ends that.
        """
        return LastGradient(parameters, self.gradient_ready)

    def end_step(self, epoch: int, step: int, images: int) -> None:
        """Close a step; its record comes when the device has passed its end."""
        self.switch(None)
        now = time.perf_counter()
        record = StepRecord(
            t=self._began_at,
            epoch=epoch,
            step=step,
            wait_s=self._wait,
            wait_cpu_s=self._wait_cpu,
            copy_s=None,
            compute_s=None,
            sync_s=None,
            optim_s=None,
            gap_s=None,
            step_s=now - self._began,
            images=images,
        )
        self._open.append(_OpenStep(record, self._parts, self._before, self._idle))
        self._before = self._parts[-1].end if self._parts else None
        self._parts = []
        self._wait = self._wait_cpu = self._idle = 0.0
        self._began_at, self._began = self._began_at + record.step_s, now
        self._settle(everything=False)

    @contextlib.contextmanager
    def phase(self, name: str, epoch: int) -> Iterator[None]:
        """Around work between steps (validation, a checkpoint); the loop is taken to wait for its end.

        It counts from the end of the last step or phase, so that no time is left over between them.
        """
        self._settle(everything=True)
        began_at, began = self._began_at, self._began
        try:
            yield
        finally:
            if self._phases is not None:
                self._phases.add(PhaseRecord(began_at, name, epoch, time.perf_counter() - began))
            self.restart()

    # --- what came of it -------------------------------------------------------------------------

    def take_finished(self) -> list[StepRecord]:
        """The records, since the last call, of the steps that the device has finished."""
        taken, self._taken = self._taken, []
        return taken

    def flush(self) -> None:
        """Write the records of all steps and phases so far; waits for the device."""
        self._settle(everything=True)
        for file in (self._steps, self._phases):
            if file is not None:
                file.flush()

    def _settle(self, *, everything: bool) -> None:
        while self._open:
            step = self._open[0]
            last = step.parts[-1].end if step.parts else None
            if last is not None:
                if everything:
                    self._timeline.wait(last)
                elif not self._timeline.passed(last):
                    return
            self._close(self._open.popleft())

    def _close(self, step: _OpenStep) -> None:
        seconds = self._timeline.seconds
        spent = dict.fromkeys(DEVICE_PARTS, 0.0)
        gap, sync, before = step.idle_s, 0.0, step.before
        if before is not None:
            gap = 0.0
        for part in step.parts:
            gap += seconds(before, part.start) if before is not None and before is not part.start else 0.0
            spent[part.name] += seconds(part.start, part.end)
            sync += seconds(part.ready, part.end) if part.ready is not None else 0.0
            before = part.end
        record = step.record
        if step.parts:
            has = {part.name for part in step.parts}
            synced = "sync" in has or any(part.ready is not None for part in step.parts)
            record.copy_s = spent["copy"] if "copy" in has else None
            record.compute_s = spent["compute"] - sync if "compute" in has else None
            record.optim_s = spent["optim"] if "optim" in has else None
            record.sync_s = spent["sync"] + sync if synced else None
            record.gap_s = max(0.0, gap)
        self._release(step)
        self.recent.add(record)
        if self._steps is not None:
            self._steps.add(record)
        else:
            self._taken.append(record)

    def _release(self, step: _OpenStep) -> None:
        """Give the marks back; the step's last one is still the next step's `before`."""
        marks = [step.before, *(mark for part in step.parts for mark in (part.start, part.ready, part.end))]
        kept = step.parts[-1].end if step.parts else None
        for mark in {id(mark): mark for mark in marks if mark is not None and mark is not kept}.values():
            self._timeline.release(mark)
