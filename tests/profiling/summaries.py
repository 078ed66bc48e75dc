"""Summaries made by hand, as an analysis would give them: what the reports are tested with."""

from __future__ import annotations

import functools
import math
from dataclasses import replace

from segkit.profiling.records import DeviceInfo, Missing
from segkit.profiling.summary import (
    DeviceSummary,
    Differential,
    Energy,
    EpochSummary,
    HostSummary,
    Interval,
    RankSummary,
    RunSummary,
    Stalls,
    Straggler,
    Verdict,
    Verification,
    WorkerPoint,
)

START = 1_780_000_000.0


def waveform(points: int, mean: float, swing: float, phase: float = 0.0, seconds: float = 600.0) -> list[float | None]:
    """A saw over a slow wave, as utilisation looks."""
    return [
        max(0.0, mean + swing * math.sin(0.9 * i + phase) + 0.5 * swing * math.sin(40 * i / points))
        for i in range(points)
    ]


def device(index: int, points: int, seconds: float, util: float) -> DeviceSummary:
    times: list[float | None] = [START + seconds * i / points for i in range(points)]
    memory = [min(61.0, 2.0 + 800.0 * i / points) * 2**30 for i in range(points)]
    series = {
        "t": times,
        "util": waveform(points, util, 0.12, index),
        "sm": waveform(points, 0.7 * util, 0.08, index),
        "tensor": waveform(points, 0.3 * util, 0.05, index),
        "dram": waveform(points, 0.45 * util, 0.06, index),
        "memory": memory,
        "power": waveform(points, 700 * util, 60, index),
    }
    return DeviceSummary(
        info=DeviceInfo(
            uuid=f"GPU-{index}", name="NVIDIA H100 80GB HBM3", pci=None, memory_total=80 * 2**30, power_limit=700.0
        ),
        util=util,
        sm=0.7 * util,
        tensor=0.3 * util,
        dram=0.45 * util,
        memory_peak=61 * 2**30,
        power_mean=700 * util,
        energy=700 * util * seconds,
        temperature_max=66 + index,
        throttled={"software power cap": 0.034} if index == 2 else {},
        series=series,
    )


def host(name: str, points: int, seconds: float) -> HostSummary:
    return HostSummary(
        host=name,
        cpus=32,
        cpu_main=3.9,
        cpu_workers=14.2,
        read=212e6,
        series={
            "t": [START + seconds * i / points for i in range(points)],
            "cpu_main": waveform(points, 3.9, 0.6),
            "cpu_workers": waveform(points, 14.2, 3.0),
            "read": waveform(points, 212e6, 150e6),
            "rss": waveform(points, 41 * 2**30, 2**30),
            "io_wait": waveform(points, 0.08, 0.05),
        },
    )


def epochs(number: int, seconds: float, shares: dict[str, float]) -> list[EpochSummary]:
    found = []
    for i in range(number):
        starved = shares.get("starved", 0.0) * (1.0 + 0.35 * math.sin(1.7 * i) + (0.8 if i == 0 else 0.0))
        changed = {**shares, "starved": starved}
        changed["compute"] = 1.0 - sum(value for part, value in changed.items() if part != "compute")
        found.append(
            EpochSummary(i, START + i * seconds / number, seconds / number, 3000.0 * changed["compute"], changed)
        )
    return found


def gpu_run() -> RunSummary:
    """Two nodes with two GPUs each; rank 2's loader holds the others up."""
    seconds, steps = 1830.0, 7200
    shares = {
        "compute": 0.46, "optim": 0.03, "starved": 0.21, "copy": 0.045, "sync": 0.115, "host": 0.03, "validate": 0.09,
        "checkpoint": 0.02,
    }  # fmt: skip
    step = 0.2251
    ranks = [
        RankSummary(
            rank=rank,
            host=f"node{1 + rank // 2}",
            device="NVIDIA H100 80GB HBM3",
            steps=steps,
            step_s=step,
            wait_s=0.121 if rank == 2 else 0.041,
            starved_s=0.098 if rank == 2 else 0.012,
            copy_s=0.0114,
            compute_s=0.1031,
            sync_s=0.004 if rank == 2 else 0.089,
            waited_for_others_s=0.001 if rank == 2 else 0.086,
            cost_others_s=0.0843 if rank == 2 else 0.0006,
            last_share=0.95 if rank == 2 else 0.017,
        )
        for rank in range(4)
    ]
    return RunSummary(
        name="unet-20260528-101500",
        path="runs/unet-20260528-101500",
        description={
            "net": "unet", "data": "kaggle_3m", "loader": "files", "workers": "6", "batch": "32 on each of 4 ranks",
            "precision": "bf16", "host": "node1, node2", "segkit": "0.1.0", "torch": "2.13.0",
        },
        started=START,
        seconds=seconds,
        steps=steps,
        images=4 * 32 * steps,
        images_per_s=Interval(568.6, 561.9, 575.2),
        parts={part: share * seconds for part, share in shares.items()},
        hidden_wait_s=209.0,
        epochs=epochs(20, seconds, shares),
        ranks=ranks,
        straggler=Straggler(
            2, "node2", 0.374, "loader",
            "The others waited for rank 2 on node2, whose loader is slow: 37 % of their time.",
        ),
        devices=[device(i, 1830, seconds, 0.72 - 0.02 * i) for i in range(4)],
        hosts=[host(f"node{i}", 1830, seconds) for i in (1, 2)],
        energy=Energy(1.003, 1.0883),
        missing=[Missing("PCIe rates", "the driver says that they are not supported")],
        differential=None,
        verdict=Verdict(
            "loader",
            "The loader bounds this job",
            "The GPUs waited 21.0 % of the time for the loader; rank 2 on node2 causes most of the 11.5 % in which the "
            "ranks waited for each other.",
            ["Use 12 workers in place of 6: about 700 images/s.", "Look at the storage of node2."],
            "Fairly sure: the wait is 9 times its own interval",
        ),
    )  # fmt: skip


def cpu_run() -> RunSummary:
    """One process on a CPU; nothing is known of any device."""
    seconds = 94.0
    shares = {"compute": 0.61, "optim": 0.02, "starved": 0.29, "host": 0.02, "validate": 0.06}
    rank = RankSummary(0, "laptop", "cpu", 240, 0.36, 0.11, 0.11, None, 0.24, None, None, None, None)
    why = "the driver's library libnvidia-ml.so.1 was not found"
    return RunSummary(
        name="segnet-laptop",
        path="runs/segnet-laptop",
        description={"net": "segnet", "data": "phantom", "loader": "files", "workers": "0", "batch": "8"},
        started=START,
        seconds=seconds,
        steps=240,
        images=1920,
        images_per_s=Interval(22.4, 21.8, 23.0),
        parts={part: share * seconds for part, share in shares.items()},
        hidden_wait_s=0.0,
        epochs=epochs(6, seconds, shares),
        ranks=[rank],
        straggler=None,
        devices=[],
        hosts=[
            replace(
                host("laptop", 94, seconds),
                cpus=2,
                cpu_main=1.7,
                cpu_workers=None,
                read=2e6,
                series={
                    "t": [START + i for i in range(94)],
                    "cpu_main": [None if 30 < i < 40 else 1.7 + 0.2 * math.sin(i) for i in range(94)],
                    "cpu_workers": [None] * 94,
                    "read": [2e6] * 94,
                },
            )
        ],
        energy=None,
        missing=[Missing("GPU utilisation", why), Missing("GPU energy", why)],
        differential=None,
        verdict=None,
    )


def profiled_run() -> RunSummary:
    """`segkit profile` on one GPU, with the differential analysis and a check of its prediction."""
    run = gpu_run()
    measured = {0: 61.0, 1: 59.0, 2: 117.0, 4: 229.0, 8: 431.0, 12: 566.0}
    curve = [
        WorkerPoint(
            n, Interval(rate, 0.97 * rate, 1.03 * rate), 58.5 * max(n, 1) if n < 10 else 575.0, "files", n == 12
        )
        for n, rate in measured.items()
    ]
    curve += [WorkerPoint(16, None, 590.0, "files"), WorkerPoint(0, Interval(604.0, 598.0, 610.0), 600.0, "packed")]
    differential = Differential(
        stalls=Stalls(
            compute=Interval(612.0, 606.0, 618.0),
            warm=Interval(431.0, 424.0, 438.0),
            cold=Interval(388.0, 371.0, 405.0),
            prep_stall=Interval(0.296, 0.281, 0.311),
            fetch_stall=Interval(0.0703, 0.031, 0.109),
            copy_share=Interval(0.041, 0.039, 0.043),
            notes=["page cache of 3 of 3,929 files could not be dropped: they are open elsewhere"],
        ),
        curve=curve,
        verification=Verification(12, "files", 575.0, Interval(566.0, 549.0, 583.0), True),
        settings={"model": "unet", "batch": 32, "loader": "files", "prefetch": 4, "CPUs granted": 16},
    )
    return replace(
        run,
        name="profile-unet",
        ranks=run.ranks[:1],
        straggler=None,
        devices=run.devices[:1],
        hosts=run.hosts[:1],
        differential=differential,
        epochs=[],
        verdict=Verdict(
            "prep",
            "Decoding bounds this job",
            "Decoding costs 29.6 % of the time, storage 7.0 %; the net alone would reach 612 images/s.",
            ["Use 12 workers: about 575 images/s.", "Or --loader packed, which needs no workers: about 600 images/s."],
            "Sure: the run with 12 workers gave 566 images/s, 1.6 % under the prediction",
        ),
    )


@functools.cache
def long_run() -> RunSummary:
    """A day with 200 epochs and a sample a second."""
    run = gpu_run()
    seconds = 86_400.0
    shares = {part: value / run.seconds for part, value in run.parts.items()}
    return replace(
        run,
        name="long",
        seconds=seconds,
        steps=340_000,
        parts={part: share * seconds for part, share in shares.items()},
        epochs=epochs(200, seconds, shares),
        devices=[device(i, 86_400, seconds, 0.72) for i in range(2)],
        hosts=[host("node1", 86_400, seconds)],
    )


def one_step_run() -> RunSummary:
    """Killed after its first step: hardly a figure, no interval."""
    sample = device(0, 1, 1.0, 0.1)
    return replace(
        cpu_run(),
        name="one-step",
        seconds=0.8,
        steps=1,
        images=8,
        images_per_s=None,
        parts={"compute": 0.5, "starved": 0.3},
        epochs=[EpochSummary(0, START, 0.8, 10.0, {"compute": 0.625, "starved": 0.375})],
        ranks=[RankSummary(0, "laptop", "cpu", 1, 0.8, 0.3, 0.3, None, 0.5, None, None, None, None)],
        devices=[replace(sample, sm=None, tensor=None, dram=None, power_mean=None, energy=None, memory_peak=None)],
        hosts=[],
    )


def sampled_only() -> RunSummary:
    """`segkit profile -- COMMAND` of a program whose loop nobody timed: devices, but no steps."""
    run = gpu_run()
    return replace(
        run, name="command", steps=0, images=0, images_per_s=None, seconds=0.0, parts={}, epochs=[], ranks=[],
        straggler=None, hidden_wait_s=0.0, energy=Energy(0.4, float("nan")), started=None, verdict=None,
    )  # fmt: skip


HOSTILE = "<script>alert('x')</script>|`**$x_1$**` & \"q\" @all http://evil.example/ [a](b)\n#0072b2 0.123456"


def hostile_run() -> RunSummary:
    """Every text from outside is an attack."""
    run = gpu_run()
    bad = HOSTILE
    return replace(
        run,
        name=bad,
        path=bad,
        description={bad: bad},
        ranks=[replace(rank, host=bad, device=bad) for rank in run.ranks],
        straggler=Straggler(2, bad, 0.374, bad, bad),
        devices=[replace(each, info=replace(each.info, name=bad), throttled={bad: 0.5}) for each in run.devices],
        hosts=[replace(each, host=bad) for each in run.hosts],
        missing=[Missing(bad, bad)],
        verdict=Verdict(bad, bad, bad, [bad], bad),
        differential=replace(
            profiled_run().differential,  # type: ignore[type-var]
            curve=[WorkerPoint(1, Interval(5.0), 4.0, bad, True), WorkerPoint(2, Interval(8.0, 7.0, 9.0), None, bad)],
            settings={bad: bad},
        ),
    )


ALL = (gpu_run, cpu_run, profiled_run, long_run, one_step_run, sampled_only, hostile_run)
