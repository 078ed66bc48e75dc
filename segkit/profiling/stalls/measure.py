"""Rates of a job on different feeds, from short runs that take turns, so that a drifting machine touches all alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Protocol

import numpy as np

from segkit.profiling.rates import rate
from segkit.profiling.records import StepRecord
from segkit.profiling.stalls import page_cache
from segkit.profiling.summary import Interval, WorkerPoint

TARGET = 0.03  # half of a rate's 95 % interval over the rate
LEAST_STEPS = 8  # for an interval that means something
WARM_UP = 3  # steps of a run that do not count, beside those that fill the prefetch queues
TURNS = 3  # runs over which a measurement is spread
GOOD_ENOUGH = 0.97  # of the best rate: then fewer workers win
CLOSE = 0.01  # half of the interval over the rate, for those among which that has to be decided


@dataclass(frozen=True)
class Feed:
    """Where a run's batches come from."""

    loader: str = ""  # a name that the workload knows; empty: synthetic batches on the device
    workers: int = 0
    prefetch: int = 2
    pin: bool = True  # page-locked memory, where the device is a GPU

    @property
    def synthetic(self) -> bool:
        """Whether no pipeline is involved."""
        return not self.loader


class Workload(Protocol):
    """A training job that can be run step by step on different feeds."""

    cpus: int  # granted to this rank
    on_cpu: bool  # whether the net computes on the CPUs that the loader uses

    def steps(self, feed: Feed, before_pass: Callable[[], None]) -> Iterator[StepRecord]:
        """Train without end, a record a step; `before_pass` is called before each pass over the data, untimed."""

    def loaders(self) -> Sequence[str]:
        """The loaders that this job could use."""

    def files(self, loader: str) -> Sequence[Path]:
        """What a loader reads, free to be dropped from the page cache; asked for before each cold pass."""

    def load_seconds(self, loader: str) -> float:
        """Seconds in which one process makes a batch, files in the page cache, nothing else running."""


@dataclass
class Measured:
    """The steps of one feed, over several runs."""

    feed: Feed
    records: list[StepRecord] = field(default_factory=list)
    spent: float = 0.0

    @property
    def images_per_s(self) -> Interval:
        """The rate with its interval."""
        return rate([r.images for r in self.records], [r.period_s for r in self.records])

    @property
    def step_seconds(self) -> float:
        """Mean seconds a step."""
        return float(np.mean([r.period_s for r in self.records]))

    def mean(self, part: str) -> float:
        """Mean seconds a step of one part; 0 where it was not told apart."""
        return float(np.mean([getattr(r, part) or 0.0 for r in self.records]))

    @property
    def done(self) -> bool:
        """Whether the interval is narrow enough."""
        return self.known_to(TARGET)

    def known_to(self, target: float) -> bool:
        """Whether half of the interval over the rate is less than `target`."""
        width = self.images_per_s.relative_half_width
        return len(self.records) >= LEAST_STEPS and width is not None and width < target


Say = Callable[[str], None]


def _nothing() -> None:
    return


def run(workload: Workload, measured: Measured, seconds: float, before_pass: Callable[[], None] = _nothing) -> None:
    """Add one run of about `seconds` to a measurement; its first steps, which fill the queues, do not count."""
    steps = workload.steps(measured.feed, before_pass)
    try:
        skipped = WARM_UP + measured.feed.workers * measured.feed.prefetch
        for _ in islice(steps, skipped):
            pass
        started, before = perf_counter(), len(measured.records)
        for record in steps:
            measured.records.append(record)
            if perf_counter() - started >= seconds and len(measured.records) - before >= LEAST_STEPS // TURNS + 1:
                break
        measured.spent += perf_counter() - started
    finally:
        steps.close()  # type: ignore[attr-defined]


def take_turns(workload: Workload, feeds: Sequence[Feed], seconds: float, say: Say) -> list[Measured]:
    """Measure feeds in turns until each interval is under 3 %, for at most about `seconds` each."""
    all_measured = [Measured(feed) for feed in feeds]
    for turn in range(TURNS * 4):
        open_ones = [m for m in all_measured if turn < 2 or (not m.done and m.spent < seconds)]
        if not open_ones:
            break
        for measured in open_ones if turn % 2 == 0 else open_ones[::-1]:
            say(f"turn {turn + 1}: {_name(measured.feed)}")
            run(workload, measured, seconds / TURNS / (2 if turn < 2 else 1))
    return all_measured


def contenders(tried: Sequence[Measured]) -> list[Measured]:
    """The feeds that may be as good as the best, as far as the intervals tell; none where one is the best alone."""
    best = max((m.images_per_s.value for m in tried), default=0.0)
    close = [m for m in tried if (m.images_per_s.high or m.images_per_s.value) >= GOOD_ENOUGH * best]
    return close if len(close) > 1 else []


def tell_apart(workload: Workload, tried: Sequence[Measured], seconds: float, say: Say) -> None:
    """Measure the contenders longer, in turns, until their rates are known well enough to choose one of them.

    For at most about `seconds` more each. Rates known to 3 % could hide that the choice is 5 % worse than the best.
    """
    for turn in range(TURNS):
        close = contenders(tried)
        if all(m.known_to(CLOSE) for m in close):
            return
        for measured in close if turn % 2 == 0 else close[::-1]:
            say(f"choosing, turn {turn + 1}: {_name(measured.feed)}")
            run(workload, measured, seconds / TURNS)


def measure_cold(workload: Workload, feed: Feed, seconds: float, say: Say) -> tuple[Measured | None, str]:
    """The pipeline on a page cache that is dropped before each pass; None and why where that cannot be done."""
    problems: list[str] = []
    if not workload.files(feed.loader):
        return None, "the loader reads no files while it trains"

    def forget() -> None:
        problem = page_cache.drop(workload.files(feed.loader))
        if problem:
            problems.append(problem)

    say(f"cold page cache: {_name(feed)}")
    cold = Measured(feed)
    while not cold.done and cold.spent < seconds and not problems:
        run(workload, cold, seconds / TURNS, forget)
    return (None, problems[0]) if problems else (cold, "")


def _name(feed: Feed) -> str:
    return "synthetic batches" if feed.synthetic else f"{feed.loader}, {feed.workers} workers"


def choose(curve: Sequence[WorkerPoint]) -> list[WorkerPoint]:
    """Mark the measured point with the fewest workers among those that are as good as the best.

    Of several such points the first counts: those of the present loader stand before the others'.
    """
    measured = [point for point in curve if point.images_per_s is not None]
    best = max((_rate(point) for point in measured), default=0.0)
    good = [point for point in measured if _rate(point) >= GOOD_ENOUGH * best]
    chosen = min(good, key=lambda point: point.workers, default=None)
    return [replace(point, chosen=point is chosen) for point in curve]


def _rate(point: WorkerPoint) -> float:
    return point.images_per_s.value if point.images_per_s is not None else 0.0
