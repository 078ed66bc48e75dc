"""Differential stall analysis: what a job's parts cost, from runs that leave one of them out.

The method is DS-Analyzer's (Mohan, Phanishayee, Raniwala, Chidambaram: Analyzing and Mitigating Data Stalls in DNN
Training, VLDB 2021): the net on synthetic batches that are on the device already gives the compute rate; the real
pipeline with all files in the page cache loses to preparation (decoding, collating); with a cold page cache it loses
to storage as well. Then worker counts are tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from segkit.profiling.rates import quotient_share, rate
from segkit.profiling.records import StepRecord
from segkit.profiling.stalls import page_cache
from segkit.profiling.stalls.measure import (
    GOOD_ENOUGH,
    TARGET,
    Feed,
    Measured,
    Say,
    Workload,
    choose,
    measure_cold,
    take_turns,
    tell_apart,
)
from segkit.profiling.stalls.prediction import Costs, candidates
from segkit.profiling.summary import Differential, Interval, Stalls, Variant, WorkerPoint
from segkit.profiling.text import percent
from segkit.resources import available_memory

DISTURBED = "the net alone was slower than with a pipeline: other work disturbed the measurement"


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
    tell_apart(workload, tried, seconds, say)
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
    notes = _notes(synthetic, present, tried, why_not, not_warm)
    differential = Differential(
        stalls=_stalls(synthetic, present, cold_run, workload.on_cpu, notes),
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


def _notes(
    synthetic: Measured, warm: Measured, tried: Sequence[Measured], why_not_cold: str, not_warm: str
) -> list[str]:
    """What limits the measurement."""
    notes = [f"storage was not measured: {why_not_cold}"] if why_not_cold else []
    notes += [not_warm] if not_warm else []
    for name, measured in (("net's", synthetic), ("warm", warm)):
        width = measured.images_per_s.relative_half_width
        if width is None or width >= TARGET:
            notes.append(f"the {name} rate is known to ± {percent(width or 1)} only; a longer --seconds narrows it")
    if max(m.images_per_s.value for m in tried) > (1 + 2 * TARGET) * synthetic.images_per_s.value:
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
