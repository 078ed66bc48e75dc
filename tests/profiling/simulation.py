"""A device with a queue, and the host that feeds it, on a clock that only their work moves."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from segkit.profiling import step_clock
from segkit.profiling.step_clock import StepClock

MS = 1e-3


@dataclass
class Event:
    """As a CUDA event: recorded now, reached when the device has done all work that was queued before it."""

    reached: float = 0.0
    released: bool = False


class Simulation:
    """The host's time, the device's queue, and the timeline that a StepClock sees of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0  # the host
        self.free_at = 0.0  # the device has done its queue
        self.events: list[Event] = []  # all that were ever made
        self._free: list[Event] = []
        monkeypatch.setattr(step_clock, "time", self)

    # --- what the loop does ----------------------------------------------------------------------

    def host(self, ms: float) -> None:
        """The host works or waits."""
        self.now += ms * MS

    def enqueue(self, ms: float) -> None:
        """The host gives work to the device and goes on."""
        self.free_at = max(self.now, self.free_at) + ms * MS

    def synchronise(self) -> None:
        """The host waits for the device."""
        self.now = max(self.now, self.free_at)

    # --- the module `time`, as the clock sees it -------------------------------------------------

    def time(self) -> float:
        return 1.78e9 + self.now

    def perf_counter(self) -> float:
        return self.now

    def thread_time(self) -> float:
        return self.now / 4  # a quarter of each wait is work of the waiting thread

    # --- the timeline ----------------------------------------------------------------------------

    def mark(self) -> Event:
        if self._free:
            event = self._free.pop()
        else:
            event = Event()
            self.events.append(event)
        event.reached, event.released = max(self.now, self.free_at), False
        return event

    def passed(self, mark: Event) -> bool:
        assert not mark.released
        return self.now >= mark.reached

    def wait(self, mark: Event) -> None:
        assert not mark.released
        self.now = max(self.now, mark.reached)

    def seconds(self, first: Event, second: Event) -> float:
        assert not first.released
        assert not second.released
        assert self.now >= second.reached >= first.reached
        return second.reached - first.reached

    def release(self, mark: Event) -> None:
        assert not mark.released
        mark.released = True
        self._free.append(mark)


@pytest.fixture
def simulation(monkeypatch: pytest.MonkeyPatch) -> Simulation:
    return Simulation(monkeypatch)


def train_step(sim: Simulation, clock: StepClock, number: int, *, load: float = 0.0, epoch: int = 0) -> None:
    """A step of 2 ms copy, 10 ms compute and 3 ms optimiser on the device; `load` ms on the host before it."""
    with clock.waiting():
        sim.host(load)
    clock.switch("copy")
    sim.enqueue(2)
    clock.switch("compute")
    sim.enqueue(10)
    clock.switch("optim")
    sim.enqueue(3)
    clock.end_step(epoch, number, images=4)
