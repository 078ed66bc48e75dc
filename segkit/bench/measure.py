"""From the run directory of a measurement to its row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from segkit.bench.rows import DONE, Row
from segkit.data.layouts import find_cases
from segkit.data.split import Split
from segkit.files import read_json
from segkit.models.cost import Cost, cost
from segkit.profiling.analysis import WARM_UP, RankRecords, profile_folder, read_ranks, settled, spent, summarise
from segkit.profiling.records import HostSample, StepRecord, read_lines
from segkit.profiling.report.colours import STEP_PARTS
from segkit.profiling.samples import mean
from segkit.profiling.summary import RunSummary
from segkit.runs import RunDirectory
from segkit.training.checkpoint import NetDescription, load_checkpoint
from segkit.training.config import TrainConfig


def measured(row: Row, run: RunDirectory) -> Row:
    """`row` with what the records of its run say.

    Raises:
        FileError: there are no records, or no checkpoint.
    """
    summary = summarise(run.path)
    ranks = read_ranks(profile_folder(run.path))
    row = replace(row, status=DONE, **_surroundings(run), **_speed(summary, ranks, row.started))
    row = replace(row, **_resources(summary, run.profile), **_net(run))
    epochs = run.epochs()
    row.val_dice = max((line["val_dice"] for line in epochs), default=None)
    if row.train_slices and row.images_per_s:
        row.epoch_s = row.train_slices / row.images_per_s + (row.fill_s or 0.0)
    if run.evaluation.exists():
        figures = read_json(run.evaluation)["figures"]
        row.accuracy = {key: [found.get(part) for part in ("value", "low", "high")] for key, found in figures.items()}
    return row


def _surroundings(run: RunDirectory) -> dict[str, Any]:
    record = run.record()
    machine = {key: record[key] for key in ("platform", "python", "packages", "commit", "job") if key in record}
    return {"host": str(record.get("host", "")), "segkit": str(record.get("segkit", "")), "machine": machine}


def _speed(summary: RunSummary, ranks: dict[int, RankRecords], started: float) -> dict[str, Any]:
    rate = summary.images_per_s
    steady = {rank: settled(records.steps) for rank, records in ranks.items()}
    infos = [records.info for records in ranks.values() if records.info is not None]
    steps = [step.step_s for group in steady.values() for step in group]
    return {
        "device": infos[0].device if infos else "",
        "device_name": infos[0].name if infos else "",
        "ranks": len(ranks),
        "threads": infos[0].threads if infos else None,
        "steps": summary.steps,
        "images_per_s": rate.value if rate else None,
        "images_low": rate.low if rate else None,
        "images_high": rate.high if rate else None,
        "step_s": float(np.mean(steps)) if steps else None,
        "parts": step_parts(list(steady.values())),
        "fill_s": float(np.mean([fill_seconds(records.steps) for records in ranks.values()])) if ranks else None,
        "first_step_s": first_step(ranks, started),
        "verdict": summary.verdict.kind if summary.verdict else None,
        "sentence": summary.verdict.sentence if summary.verdict else None,
        "wait_cpu_share": summary.wait_cpu_share,
    }


def step_parts(groups: Sequence[Sequence[StepRecord]]) -> dict[str, float]:
    """Seconds of a mean step by part; the mean over ranks, each with its steps."""
    each = [spent(list(group), []) for group in groups]
    counts = [max(1, len(group)) for group in groups]
    whole = {p: float(np.mean([one[p] / n for one, n in zip(each, counts, strict=True)])) for p in STEP_PARTS}
    return whole if each else {}


def fill_seconds(steps: Sequence[StepRecord]) -> float:
    """What an epoch's first steps take beyond steady ones: workers start, buffers fill, kernels are chosen.

    The mean over the later epochs, whose workers live already; of the first one where there is no other.
    """
    usual = float(np.median([step.step_s for step in settled(list(steps))]))
    begins = [list(group)[:WARM_UP] for _, group in groupby(steps, key=lambda step: step.epoch)]
    extra = [sum(step.step_s for step in begin) - usual * len(begin) for begin in begins]
    return max(0.0, float(np.mean(extra[1:] or extra)))


def first_step(ranks: dict[int, RankRecords], started: float) -> float | None:
    """Seconds from the start of the process to the end of the last rank's first step."""
    ends = [records.steps[0].t + records.steps[0].step_s for records in ranks.values()]
    return max(ends) - started if ends and started else None


def _resources(summary: RunSummary, profile: Path) -> dict[str, Any]:
    used = [host.cpu_main + (host.cpu_workers or 0.0) for host in summary.hosts if host.cpu_main is not None]
    resident = [s.rss for path in profile.glob("host-*.jsonl") for s in read_lines(path, HostSample) if s.rss]
    memory = [device.memory_peak for device in summary.devices if device.memory_peak is not None]
    return {
        "cpus": min((host.cpus for host in summary.hosts), default=None),
        "cpu_used": sum(used) if used else None,
        "util": mean([device.util for device in summary.devices]),
        "sm": mean([device.sm for device in summary.devices]),
        "tensor": mean([device.tensor for device in summary.devices]),
        "memory_gpu": max(memory, default=None),
        "memory_host": max(resident, default=None),
        "wh_per_1000": summary.energy.wh_per_1000_images if summary.energy else None,
        "io_wait": mean([host.io_wait for host in summary.hosts]),
        "queued_workers": mean([host.queued_workers for host in summary.hosts]),
    }


def _net(run: RunDirectory) -> dict[str, Any]:
    """The net's size and work, and how many slices it trains on."""
    config = TrainConfig.load(run.config)
    metadata = NetDescription.from_plain(load_checkpoint(run.last)["description"]).metadata
    side = config.augment.crop or max(metadata.size)
    found = _cost(metadata.model, len(metadata.channels), len(metadata.classes), metadata.width, side)
    area = side * side if config.augment.crop else metadata.size[0] * metadata.size[1]
    return {
        "parameters": found.parameters,
        "gflops": found.gflops * area / side**2,
        "train_slices": _train_slices(config.data.data, tuple(Split.load(run.split).train)),
    }


@lru_cache(maxsize=64)
def _cost(model: str, channels: int, classes: int, width: int, side: int) -> Cost:
    return cost(model, in_channels=channels, classes=classes, width=width, size=side)


@lru_cache(maxsize=64)
def _train_slices(data: str, patients: tuple[str, ...]) -> int:
    wanted = set(patients)
    return sum(len(case.slices) for case in find_cases(Path(data)).cases if case.patient in wanted)
