"""The records as a Chrome trace, which Perfetto and chrome://tracing open.

Each rank is a process with three threads: what its host did in a step, what its device did, and the phases between
steps. Each sampled GPU, and each node, is a process with counters. Times are microseconds since the first record.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from segkit.files import atomic_path
from segkit.profiling.analysis import profile_folder
from segkit.profiling.records import (
    DeviceSample,
    HostSample,
    PhaseRecord,
    StepRecord,
    read_lines,
    read_rank_infos,
    read_sampler_info,
)
from segkit.profiling.report import words
from segkit.profiling.report.colours import label

Event = dict[str, Any]
Timed = TypeVar("Timed", StepRecord, PhaseRecord)

HOST, DEVICE, BETWEEN = 1, 2, 3  # thread numbers
_THREADS = {HOST: "host", DEVICE: "device", BETWEEN: "between steps"}
_PHASES = {"validate": "validate", "checkpoint": "checkpoint"}
_GPU_COUNTERS = {
    "util": ("utilisation (%)", 100.0),
    "sm": ("SM activity (%)", 100.0),
    "tensor": ("tensor core activity (%)", 100.0),
    "dram": ("DRAM activity (%)", 100.0),
    "memory": ("memory (GiB)", 2**-30),
    "power": ("power (W)", 1.0),
    "temperature": ("temperature (°C)", 1.0),
}
_HOST_COUNTERS = {
    "cpu_main": ("CPUs: training process", 1.0),
    "cpu_workers": ("CPUs: loader workers", 1.0),
    "read": ("read from storage (MB/s)", 1e-6),
    "io_wait": ("waiting for storage (%)", 100.0),
    "rss": ("memory (GiB)", 2**-30),
}


def write_trace(runs: Sequence[Path], names: Sequence[str], target: Path) -> int:
    """Write the trace of one or more runs, atomically; gzip-compressed where `target` ends in .gz.

    Each run begins at time 0. Returns the number of events.

    Raises:
        FileError: a run has no records, or the file cannot be written.
    """
    folders = [profile_folder(run) for run in runs]
    with atomic_path(target) as temporary:
        opener = gzip.open if target.suffix == ".gz" else open
        with opener(temporary, "wt", encoding="utf-8") as file:
            file.write('{"displayTimeUnit":"ms","traceEvents":[\n')
            number = 0
            for number, event in enumerate(_all(folders, names), 1):
                separator = ",\n" if number > 1 else ""
                file.write(separator + json.dumps(event, separators=(",", ":"), allow_nan=False))
            file.write("\n]}\n")
    return number


def _all(folders: Sequence[Path], names: Sequence[str]) -> Iterator[Event]:
    """Events of all runs; a run's name stands before its processes' where there are several runs."""
    process = 1
    for folder, name in zip(folders, names, strict=True):
        for events in _processes(folder, f"{name}: " if len(folders) > 1 else ""):
            for event in events:
                yield {**event, "pid": process}
            process += 1


def _processes(folder: Path, prefix: str) -> Iterator[Iterator[Event]]:
    start = _start(folder)
    infos = read_rank_infos(folder)
    for rank in _ranks(folder):
        where = f" on {infos[rank].host} ({infos[rank].name})" if rank in infos else ""
        yield _rank(folder, rank, words.one_line(f"{prefix}rank {rank}{where}"), start)
    for path in sorted(folder.glob("sampler-*.json")):
        node = read_sampler_info(path)
        samples = read_lines(folder / f"gpu-{node.host}.jsonl", DeviceSample)
        for index, device in enumerate(node.devices):
            own = [sample for sample in samples if sample.gpu == device.uuid]
            name = words.one_line(f"{prefix}GPU {index} on {node.host} ({device.name})")
            yield _counters(name, own, _GPU_COUNTERS, start)
        hosts = read_lines(folder / f"host-{node.host}.jsonl", HostSample)
        yield _counters(words.one_line(f"{prefix}node {node.host}"), hosts, _HOST_COUNTERS, start)


def _ranks(folder: Path) -> list[int]:
    found = {
        path.stem.removeprefix(kind) for kind in ("steps-rank", "phases-rank") for path in folder.glob(f"{kind}*.jsonl")
    }
    return sorted(int(rank) for rank in found if rank.isdigit())


def _start(folder: Path) -> float:
    """The Unix time of the first record."""
    patterns = ("steps-rank*.jsonl", "phases-rank*.jsonl", "gpu-*.jsonl", "host-*.jsonl")
    times = [_first_time(path) for pattern in patterns for path in folder.glob(pattern)]
    return min((t for t in times if t is not None), default=0.0)


def _first_time(path: Path) -> float | None:
    with path.open(encoding="utf-8") as file:
        for line in file:
            try:
                return float(json.loads(line)["t"])
            except (ValueError, TypeError, KeyError):
                continue  # as `read_lines` does
    return None


def _rank(folder: Path, rank: int, name: str, start: float) -> Iterator[Event]:
    yield _named("process_name", name)
    yield {"ph": "M", "name": "process_sort_index", "args": {"sort_index": rank}}
    for thread, title in _THREADS.items():
        yield {**_named("thread_name", title), "tid": thread}
    device_free = 0.0  # until when the device's line is taken
    for step, until in _until_next(read_lines(folder / f"steps-rank{rank}.jsonl", StepRecord)):
        began, ended = step.t - start, min(step.t + step.step_s, until) - start
        about = {"epoch": step.epoch + 1, "step": step.step, "images": step.images}
        yield _complete(f"step {step.step}", "step", HOST, began, ended, about)
        if step.wait_s > 0:
            yield _complete("wait for the loader", "starved", HOST, began, min(began + step.wait_s, ended))
        device_free = max(device_free, began)
        for part, seconds in _on_device(step):
            yield _complete(label(part), part, DEVICE, device_free, device_free + seconds, {"step": step.step})
            device_free += seconds
    for phase, until in _until_next(read_lines(folder / f"phases-rank{rank}.jsonl", PhaseRecord)):
        began, ended = phase.t - start, min(phase.t + phase.seconds, until) - start
        said = label(_PHASES[phase.phase]) if phase.phase in _PHASES else words.one_line(phase.phase)
        yield _complete(said, "phase", BETWEEN, began, ended, {"epoch": phase.epoch + 1})


def _until_next(records: list[Timed]) -> Iterator[tuple[Timed, float]]:
    """Records in time, each with the beginning of the next.

    Beginnings are the system's time, which may be set back, and durations are not: an end may lie past the next
    beginning, and a viewer drops what overlaps.
    """
    records = sorted(records, key=lambda record: record.t)
    return zip(records, [*(record.t for record in records[1:]), math.inf], strict=False)


def _on_device(step: StepRecord) -> list[tuple[str, float]]:
    """The step's parts in the device's order; the gap divided into what the loader caused and the rest."""
    gap = step.gap_s or 0.0
    starved = min(step.wait_s, gap)
    spent = [("starved", starved), ("host", gap - starved), ("copy", step.copy_s), ("compute", step.compute_s)]
    spent += [("sync", step.sync_s), ("optim", step.optim_s)]
    return [(part, seconds) for part, seconds in spent if seconds is not None and seconds > 0]


def _counters(
    name: str,
    samples: Sequence[DeviceSample] | Sequence[HostSample],
    wanted: dict[str, tuple[str, float]],
    start: float,
) -> Iterator[Event]:
    yield _named("process_name", name)
    for sample in samples:
        for key, (title, scale) in wanted.items():
            value = words.known(getattr(sample, key))
            if value is not None:
                yield {
                    "ph": "C",
                    "name": title,
                    "ts": _micro(sample.t - start),
                    "args": {"value": round(value * scale, 4)},
                }


def _named(kind: str, name: str) -> Event:
    return {"ph": "M", "name": kind, "args": {"name": name}}


def _complete(name: str, category: str, thread: int, began: float, ended: float, about: Event | None = None) -> Event:
    """Both ends are rounded alike, so that what touches does not overlap."""
    at = _micro(began)
    event = {"ph": "X", "name": name, "cat": category, "tid": thread, "ts": at, "dur": round(_micro(ended) - at, 3)}
    return {**event, "args": about} if about else event


def _micro(seconds: float) -> float:
    return round(1e6 * seconds, 3)
