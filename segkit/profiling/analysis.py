"""From a run's records to its summary."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from segkit.errors import FileError
from segkit.files import read_json
from segkit.profiling.rates import rate
from segkit.profiling.records import Missing, PhaseRecord, RankInfo, StepRecord, read_lines, read_rank_infos
from segkit.profiling.samples import NodeSamples, read_nodes, total_energy
from segkit.profiling.stalls.record import read_differential
from segkit.profiling.stragglers import compare_ranks, find_straggler
from segkit.profiling.summary import PARTS, Energy, EpochSummary, Interval, RunSummary
from segkit.profiling.verdict import decide

JOB = "job.json"  # what the program says of itself, label -> value
WARM_UP = 5  # first steps of an epoch that do not count for the steady state, where there are many


@dataclass(frozen=True)
class RankRecords:
    """One rank's records, in time."""

    info: RankInfo | None
    steps: list[StepRecord]
    phases: list[PhaseRecord]

    @property
    def seconds(self) -> float:
        """Time that the records cover."""
        return sum(s.step_s for s in self.steps) + sum(p.seconds for p in self.phases)


def profile_folder(path: Path) -> Path:
    """The folder of the records: `profile/` of a run directory, or the folder itself.

    Raises:
        FileError: there are no records.
    """
    for folder in (path / "profile", path):
        if any(folder.glob("steps-rank*.jsonl")) or any(folder.glob("sampler-*.json")):
            return folder
    raise FileError(path, "has no profile records", "give a run of `segkit train`, or a folder that the profiler wrote")


def summarise(path: Path) -> RunSummary:
    """What the records of a run say.

    Args:
        path: a run directory, or a profile folder.

    Raises:
        FileError: there are no records.
    """
    folder = profile_folder(path)
    ranks = read_ranks(folder)
    nodes = read_nodes(folder)
    devices = [device for node in nodes for device in node.devices]
    images = sum(step.images for records in ranks.values() for step in records.steps)
    parts = _parts(ranks)
    sampled = [t for node in nodes for t in node.host.series["t"] if t is not None]
    summary = RunSummary(
        name=path.resolve().name,
        path=str(path),
        description=_description(folder, ranks, nodes),
        started=min((r.steps[0].t for r in ranks.values() if r.steps), default=min(sampled, default=None)),
        seconds=sum(parts.values()) if ranks else max(sampled, default=0.0) - min(sampled, default=0.0),
        steps=max((len(r.steps) for r in ranks.values()), default=0),
        images=images,
        images_per_s=steady_rate(ranks),
        parts=parts,
        hidden_wait_s=_mean([sum(s.wait_s - s.starved_s for s in r.steps) for r in ranks.values()]),
        wait_cpu_share=_wait_cpu_share(ranks),
        epochs=_epochs(ranks),
        ranks=compare_ranks({rank: (r.info, r.steps) for rank, r in ranks.items()}),
        straggler=None,
        devices=devices,
        hosts=[node.host for node in nodes],
        energy=_energy(total_energy(devices), images),
        missing=_missing(nodes),
        differential=read_differential(folder),
        verdict=None,
    )
    summary = replace(summary, straggler=find_straggler(summary.ranks))
    return replace(summary, verdict=decide(summary))


def read_ranks(folder: Path) -> dict[int, RankRecords]:
    """The steps and phases of each rank, sorted by time; a step that a resumed run did again counts once."""
    infos = read_rank_infos(folder)
    ranks = {}
    for path in sorted(folder.glob("steps-rank*.jsonl"), key=lambda p: (len(p.name), p.name)):
        rank = int(path.stem.removeprefix("steps-rank"))
        latest = {step.step: step for step in read_lines(path, StepRecord)}
        steps = sorted(latest.values(), key=lambda step: step.t)
        phases = sorted(read_lines(folder / f"phases-rank{rank}.jsonl", PhaseRecord), key=lambda phase: phase.t)
        if steps:
            ranks[rank] = RankRecords(infos.get(rank), steps, phases)
    return ranks


def steady_rate(ranks: dict[int, RankRecords]) -> Interval | None:
    """Images a second of all ranks in the training steps, without the first steps of each epoch."""
    if not ranks:
        return None
    images: dict[int, float] = defaultdict(float)
    seconds: dict[int, list[float]] = defaultdict(list)
    for records in ranks.values():
        for step in settled(records.steps):
            images[step.step] += step.images
            seconds[step.step].append(step.step_s)
    steps = sorted(images)
    return rate([images[s] for s in steps], [float(np.mean(seconds[s])) for s in steps])


def settled(steps: list[StepRecord]) -> list[StepRecord]:
    """The steps without the first of each epoch, where buffers fill; all, where an epoch has few."""
    by_epoch: dict[int, list[StepRecord]] = defaultdict(list)
    for step in steps:
        by_epoch[step.epoch].append(step)
    return [s for group in by_epoch.values() for s in (group[WARM_UP:] if len(group) >= 4 * WARM_UP else group)]


def _parts(ranks: dict[int, RankRecords]) -> dict[str, float]:
    """Seconds by part, mean over ranks."""
    each = [spent(r.steps, r.phases) for r in ranks.values()]
    return {part: _mean([one[part] for one in each]) for part in PARTS} if each else dict.fromkeys(PARTS, 0.0)


def spent(steps: list[StepRecord], phases: list[PhaseRecord]) -> dict[str, float]:
    """Seconds by part; what the device's timeline does not explain of the host's time is the host's."""
    parts = dict.fromkeys(PARTS, 0.0)
    for s in steps:
        parts["starved"] += s.starved_s
        parts["compute"] += s.compute_s or 0.0
        parts["optim"] += s.optim_s or 0.0
        parts["copy"] += s.copy_s or 0.0
        parts["sync"] += s.sync_s or 0.0
    explained = sum(parts.values())
    parts["host"] = max(0.0, sum(s.step_s for s in steps) - explained)
    for phase in phases:
        parts[phase.phase if phase.phase in ("validate", "checkpoint") else "other"] += phase.seconds
    return parts


def _wait_cpu_share(ranks: dict[int, RankRecords]) -> float | None:
    steps = [step for records in ranks.values() for step in records.steps]
    waited = sum(step.wait_s for step in steps)
    return sum(step.wait_cpu_s for step in steps) / waited if waited else None


def _epochs(ranks: dict[int, RankRecords]) -> list[EpochSummary]:
    numbers = sorted({s.epoch for r in ranks.values() for s in r.steps})
    return [_epoch(ranks, number) for number in numbers]


def _epoch(ranks: dict[int, RankRecords], number: int) -> EpochSummary:
    steps = [[s for s in r.steps if s.epoch == number] for r in ranks.values()]
    phases = [[p for p in r.phases if p.epoch == number] for r in ranks.values()]
    each = [spent(s, p) for s, p in zip(steps, phases, strict=True)]
    parts = {part: _mean([one[part] for one in each]) for part in PARTS}
    seconds = sum(parts.values())
    training = _mean([sum(s.step_s for s in group) for group in steps])
    images = sum(s.images for group in steps for s in group)
    return EpochSummary(
        epoch=number,
        t=min(s.t for group in steps for s in group),
        seconds=seconds,
        images_per_s=images / training if training else 0.0,
        shares={part: value / seconds if seconds else 0.0 for part, value in parts.items()},
    )


def _energy(joules: float | None, images: int) -> Energy | None:
    if joules is None:
        return None
    return Energy(joules / 3.6e6, joules / 3600 / images * 1000 if images else 0.0)


def _description(folder: Path, ranks: dict[int, RankRecords], nodes: list[NodeSamples]) -> dict[str, str]:
    job = {str(key): str(value) for key, value in read_json(folder / JOB).items()} if (folder / JOB).exists() else {}
    infos = [r.info for r in ranks.values() if r.info is not None]
    if infos:
        names = sorted({info.name for info in infos})
        job["device"] = f"{len(infos)} x {', '.join(names)}"
        job["hosts"] = ", ".join(sorted({info.host for info in infos}))
        job["threads a rank"] = ", ".join(sorted({str(info.threads) for info in infos}))
        if infos[0].workers is not None:
            job["workers a rank"] = str(infos[0].workers)
    if nodes:
        job["granted CPUs"] = ", ".join(sorted({str(node.host.cpus) for node in nodes}))
    return job


def _missing(nodes: list[NodeSamples]) -> list[Missing]:
    if not nodes:
        return [Missing("samples of the devices and the host", "the sampler was off")]
    seen: dict[tuple[str, str], Missing] = {}
    for node in nodes:
        for item in node.missing:
            seen.setdefault((item.what, item.why), item)
    return list(seen.values())


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else 0.0
