"""Records and summaries made by hand, for tests of what is concluded from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from segkit.profiling.records import LineFile, PhaseRecord, RankInfo, StepRecord
from segkit.profiling.summary import PARTS, HostSummary, Interval, RankSummary, RunSummary

START = 1_780_000_000.0


def step(number: int, *, epoch: int = 0, t: float | None = None, seconds: float = 0.1, **values: object) -> StepRecord:
    """A step of `seconds`, all of it computation, unless told otherwise."""
    plain = StepRecord(
        t=START + 0.1 * number if t is None else t,
        epoch=epoch,
        step=number,
        wait_s=0.0,
        wait_cpu_s=0.0,
        copy_s=None,
        compute_s=seconds,
        sync_s=None,
        optim_s=None,
        gap_s=0.0,
        step_s=seconds,
        images=8,
    )
    return replace(plain, **values)  # type: ignore[arg-type]


def write(folder: Path, steps: Iterable[StepRecord], phases: Iterable[PhaseRecord] = (), *, rank: int = 0) -> None:
    """As a rank's clock writes them."""
    for name, records in (("steps", steps), ("phases", phases)):
        file = LineFile(folder / f"{name}-rank{rank}.jsonl")
        for record in records:
            file.add(record)
        file.flush()


def rank_info(rank: int = 0, *, world: int = 1, workers: int | None = 0, host: str = "node1") -> RankInfo:
    return RankInfo(rank, world, host, "cpu", None, "CPU", threads=1, workers=workers)


def rank_summary(rank: int, **values: object) -> RankSummary:
    plain = RankSummary(
        rank=rank,
        host=f"node{rank}",
        device="CPU",
        steps=100,
        step_s=0.1,
        wait_s=0.0,
        starved_s=0.0,
        copy_s=0.0,
        compute_s=0.1,
        sync_s=None,
        waited_for_others_s=None,
        cost_others_s=None,
        last_share=None,
    )
    return replace(plain, **values)  # type: ignore[arg-type]


def host_summary(*, cpus: int = 4, **values: float) -> HostSummary:
    plain = HostSummary("node1", cpus, cpu_main=1.0, cpu_workers=None, read=None, series={"t": []})
    return replace(plain, **values)  # type: ignore[arg-type]


def run_summary(workers: int | None = 0, **seconds: float) -> RunSummary:
    """A run of one rank, of 100 steps and 100 seconds; `seconds` by part, the rest is computation."""
    parts = {**dict.fromkeys(PARTS, 0.0), **seconds}
    parts["compute"] = 100.0 - sum(seconds.values())
    return RunSummary(
        name="run",
        path="runs/run",
        description={} if workers is None else {"workers a rank": str(workers)},
        started=START,
        seconds=100.0,
        steps=100,
        images=800,
        images_per_s=Interval(80.0, 79.0, 81.0),
        parts=parts,
        hidden_wait_s=0.0,
        epochs=[],
        ranks=[rank_summary(0, step_s=1.0, starved_s=parts["starved"] / 100)],
        straggler=None,
        devices=[],
        hosts=[host_summary()],
        energy=None,
        missing=[],
        differential=None,
        verdict=None,
        wait_cpu_share=0.9,
    )
