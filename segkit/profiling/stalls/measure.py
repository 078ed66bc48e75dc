"""Differential stall analysis: what a job's parts cost, from runs that leave one of them out.

The method is DS-Analyzer's (Mohan, Phanishayee, Raniwala, Chidambaram: Analyzing and Mitigating Data Stalls in DNN
Training, VLDB 2021): the net on synthetic batches that are on the device already gives the compute rate; the real
pipeline with all files in the page cache loses to preparation (decoding, collating); with a cold page cache it loses
to storage as well. Then worker counts are tried in short runs that take turns, so that a drifting machine touches
all alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from segkit.profiling.rates import quotient_share, rate
from segkit.profiling.records import StepRecord
from segkit.profiling.stalls import page_cache
from segkit.profiling.stalls.prediction import Costs, candidates
from segkit.profiling.summary import Differential, Interval, Stalls, Variant, WorkerPoint
from segkit.profiling.text import percent
from segkit.resources import available_memory

TARGET = 0.03  # half of a rate's 95 % interval over the rate
LEAST_STEPS = 8  # for an interval that means something
WARM_UP = 3  # steps of a run that do not count, beside those that fill the prefetch queues
TURNS = 3  # runs over which a measurement is spread
DISTURBED = "the net alone was slower than with its pipeline: other work disturbed the measurement"
GOOD_ENOUGH = 0.97  # of the best rate: then fewer workers win


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
        width = self.images_per_s.relative_half_width
        return len(self.records) >= LEAST_STEPS and width is not None and width < TARGET


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


def analyse(
    workload: Workload,
    feed: Feed,
    *,
    seconds: float,
    counts: Sequence[int] | None = None,
    cold: bool = True,
    settings: dict[str, Any] | None = None,
    say: Say = lambda _: None,
) -> tuple[Differential, list[StepRecord]]:
    """Run the analysis; also gives the steps of the present setting.

    Args:
        workload: the job.
        feed: its present loader and worker count.
        seconds: the longest that one feed is measured.
        counts: worker counts to try; None: as `candidates` says.
        cold: whether to measure with a cold page cache, too.
        settings: what to write down about the job.
        say: is told what goes on.
    """
    cold_run, why_not = measure_cold(workload, feed, seconds, say) if cold else (None, "not asked for")
    say("reading the data into the page cache")
    not_warm = page_cache.warm(workload.files(feed.loader))
    counts = sorted({*(candidates(workload.cpus, feed.workers) if counts is None else counts), feed.workers})
    others = [Feed(loader) for loader in workload.loaders() if loader != feed.loader]
    feeds = [Feed(), *(replace(feed, workers=count) for count in counts), *others]
    synthetic, *tried = take_turns(workload, feeds, seconds, say)
    present = next(m for m in tried if m.feed == feed)
    loads = {loader: workload.load_seconds(loader) for loader in {m.feed.loader for m in tried}}
    costs = Costs(
        compute=synthetic.step_seconds,
        load=loads[feed.loader],
        copy=present.mean("copy_s"),
        cpus=workload.cpus,
        shared=workload.on_cpu,
    )
    costs = costs.fitted([(m.feed.workers, m.step_seconds) for m in tried if m.feed.loader == feed.loader])
    images = synthetic.images_per_s.value * synthetic.step_seconds
    curve = choose([_point(m, replace(costs, load=loads[m.feed.loader]), images) for m in tried])
    best = next(m for m, point in zip(tried, curve, strict=True) if point.chosen)
    differential = Differential(
        stalls=_stalls(synthetic, present, cold_run, workload.on_cpu, _notes(synthetic, present, why_not, not_warm)),
        curve=curve,
        verification=None,
        variants=try_variants(workload, best.feed, seconds / 2, say),
        settings={
            **(settings or {}),
            "loader": feed.loader,
            "workers": feed.workers,
            "prefetch": feed.prefetch,
            "cpus": workload.cpus,
            "on_cpu": workload.on_cpu,
            "load_s": costs.load,
            "compute_s": costs.compute,
            "copy_s": costs.copy,
            "contention": costs.contention if workload.on_cpu else None,
            "data_bytes": sum(file.stat().st_size for file in workload.files(feed.loader)),
            "memory_bytes": available_memory(),
        },
    )
    return differential, present.records


def _name(feed: Feed) -> str:
    return "synthetic batches" if feed.synthetic else f"{feed.loader}, {feed.workers} workers"


def _point(measured: Measured, costs: Costs, images: float) -> WorkerPoint:
    feed = measured.feed
    return WorkerPoint(feed.workers, measured.images_per_s, images / costs.step_seconds(feed.workers), feed.loader)


def try_variants(workload: Workload, feed: Feed, seconds: float, say: Say) -> list[Variant]:
    """Whether a longer prefetch, or memory that is not page-locked, would make the chosen setting faster."""
    others: list[tuple[str, str, Feed]] = []  # name, flags, feed
    if feed.workers:
        longer = 2 * feed.prefetch
        others.append((f"a prefetch of {longer}", f"--prefetch {longer}", replace(feed, prefetch=longer)))
    if not workload.on_cpu:
        others.append(("pageable memory", "--no-pin", replace(feed, pin=False)))
    if not others:
        return []
    chosen, *tried = take_turns(workload, [feed, *(other for _, _, other in others)], seconds, say)
    return [_variant(name, flags, chosen, m) for (name, flags, _), m in zip(others, tried, strict=True)]


def _variant(name: str, flags: str, chosen: Measured, measured: Measured) -> Variant:
    lost = quotient_share(measured.images_per_s, chosen.images_per_s)
    pays = -lost.value >= 1 - GOOD_ENOUGH and lost.high is not None and lost.high < 0
    return Variant(name, flags, measured.images_per_s, -lost.value, pays)


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


def _notes(synthetic: Measured, warm: Measured, why_not_cold: str, not_warm: str) -> list[str]:
    """What limits the measurement."""
    notes = [f"storage was not measured: {why_not_cold}"] if why_not_cold else []
    notes += [not_warm] if not_warm else []
    for name, measured in (("net's", synthetic), ("warm", warm)):
        width = measured.images_per_s.relative_half_width
        if width is None or width >= TARGET:
            notes.append(f"the {name} rate is known to ± {percent(width or 1)} only; a longer --seconds narrows it")
    if warm.images_per_s.value > (1 + 2 * TARGET) * synthetic.images_per_s.value:
        notes.append(DISTURBED)
    return notes


def _stalls(synthetic: Measured, warm: Measured, cold: Measured | None, on_cpu: bool, notes: list[str]) -> Stalls:
    compute_rate, warm_rate = synthetic.images_per_s, warm.images_per_s
    copies = [(r.copy_s or 0.0) / r.period_s for r in warm.records]
    copy = rate(copies, [1.0] * len(copies))
    if on_cpu:
        slower = warm.mean("compute_s") / max(synthetic.mean("compute_s"), 1e-12) - 1
        cost = f"made the net {percent(slower)} slower" if slower > 0.01 else "cost the net nothing"
        notes.append(f"loader and net share the CPUs; that {cost}")
    return Stalls(
        compute=compute_rate,
        warm=warm_rate,
        cold=cold.images_per_s if cold is not None else None,
        prep_stall=_minus(quotient_share(warm_rate, compute_rate), copy.value),
        fetch_stall=quotient_share(cold.images_per_s, warm_rate) if cold is not None else None,
        copy_share=copy,
        notes=notes,
    )


def _minus(lost: Interval, known: float) -> Interval:
    """What is left of a loss when a known part is taken off; a loss cannot be negative, its interval can."""
    low = lost.low - known if lost.low is not None else None
    high = lost.high - known if lost.high is not None else None
    return Interval(max(0.0, lost.value - known), low, high)
