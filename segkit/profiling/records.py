"""What a profile consists of: one JSON line a step, a phase and a sample; read back by the analysis.

    profile/steps-rank<R>.jsonl    StepRecord, one a training step of rank R
    profile/phases-rank<R>.jsonl   PhaseRecord, what a rank did between steps (validation, checkpoints)
    profile/rank<R>.json           RankInfo, where rank R ran
    profile/gpu-<host>.jsonl       DeviceSample, one a device and sampling interval
    profile/host-<host>.jsonl      HostSample, one a sampling interval
    profile/sampler-<host>.json    SamplerInfo: the devices, and what could not be measured and why

Times `t` are Unix time in seconds, so that ranks and samplers of several nodes lie on one axis. What a device or
system cannot give is None, never 0.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from segkit.files import read_json, write_json

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(slots=True)
class StepRecord:
    """One training step of one rank; times in seconds.

    On the device's own timeline a step is gap, copy, compute, sync and optim, one after another. `wait_s` is the
    host's: what of it lies inside the gap starved the device, the rest was hidden by work that was still queued.
    """

    t: float  # the end of the step before, by the host's clock
    epoch: int  # from 0
    step: int  # from 1, over the whole run
    wait_s: float  # the host, for the loader
    wait_cpu_s: float  # CPU time of the waiting thread: decoding that the loader did on it (0 workers)
    copy_s: float | None  # host to device
    compute_s: float | None  # forward and backward, without sync
    sync_s: float | None  # gradient all-reduce beyond the last gradient; None where there is nothing to reduce
    optim_s: float | None  # the optimiser's step
    gap_s: float | None  # the device idle before its first work of this step
    step_s: float  # the whole, by the host's clock
    images: int  # of this rank

    @property
    def starved_s(self) -> float:
        """The part of the wait that the device felt."""
        return self.wait_s if self.gap_s is None else min(self.wait_s, self.gap_s)

    @property
    def period_s(self) -> float:
        """The step on the device's timeline; the host may be ahead of it."""
        if self.gap_s is None:
            return self.step_s
        return self.gap_s + sum(part or 0.0 for part in (self.copy_s, self.compute_s, self.sync_s, self.optim_s))


@dataclass(slots=True)
class PhaseRecord:
    """Something a rank did between steps."""

    t: float
    phase: str  # "validate", "checkpoint", "evaluate", ...
    epoch: int
    seconds: float


@dataclass(slots=True)
class RankInfo:
    """Where a rank ran."""

    rank: int
    world: int
    host: str
    device: str  # "cpu", "cuda"
    uuid: str | None  # GPU-... or MIG-...; None on a CPU
    name: str  # of the device
    threads: int  # of the net's computation on the host
    workers: int | None  # loader processes; None where unknown
    loader: str | None = None
    pid: int = 0


@dataclass(slots=True)
class DeviceSample:
    """One device at one time. Shares are 0 to 1."""

    t: float
    gpu: str  # uuid
    util: float | None = None  # share of the interval with at least one kernel running (NVML)
    sm: float | None = None  # share of the SMs that had a warp resident (GPM)
    tensor: float | None = None  # share of cycles with the tensor cores busy (GPM)
    dram: float | None = None  # share of the memory bandwidth used (GPM)
    memory: int | None = None  # bytes in use
    power: float | None = None  # watts
    energy: float | None = None  # joules since sampling began
    sm_clock: int | None = None  # MHz
    memory_clock: int | None = None  # MHz
    temperature: int | None = None  # degrees Celsius
    throttle: list[str] | None = None  # reasons at this time; an empty list: none
    pcie_rx: float | None = None  # bytes a second, to the device
    pcie_tx: float | None = None  # bytes a second, from the device


@dataclass(slots=True)
class HostSample:
    """The process, its loader workers and the machine at one time."""

    t: float
    cpu_main: float | None = None  # CPUs that the training process used, e.g. 1.8
    cpu_workers: float | None = None  # CPUs that its child processes used, together
    workers: int | None = None  # its child processes
    read: float | None = None  # bytes a second that the process and its children read from storage
    io_wait: float | None = (
        None  # share of time that some task of this process tree, or the machine, waited for storage
    )
    rss: int | None = None  # bytes of memory of the process and its children
    cpu_machine: float | None = None  # CPUs busy on the whole machine
    queued_workers: float | None = None  # child processes that could run, but waited for a CPU


@dataclass(slots=True)
class DeviceInfo:
    """A device that is sampled."""

    uuid: str
    name: str
    pci: str | None = None
    memory_total: int | None = None  # bytes
    power_limit: float | None = None  # watts
    mig: bool = False
    parent: str | None = None  # uuid of the GPU that a MIG device is a part of


@dataclass(slots=True)
class Missing:
    """Something that the report has to do without."""

    what: str  # "GPU utilisation", "SM activity (GPM)", ...
    why: str  # one clause, e.g. "the driver's library libnvidia-ml.so.1 was not found"


@dataclass(slots=True)
class SamplerInfo:
    """What the sampler of a node saw."""

    host: str
    interval: float  # seconds
    cpus: int  # granted to the job on this node
    driver: str | None = None
    devices: list[DeviceInfo] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    machine_cpus: int | None = None  # of the whole node
    processes: int = 1  # ranks whose use of the node is in its samples


R = TypeVar("R", bound="DataclassInstance")

RECORD_FILE = re.compile(
    r"(steps|phases)-rank\d+\.jsonl|rank\d+\.json|(gpu|host)-.+\.jsonl|sampler-.+\.json|differential\.json"
)


class LineFile:
    """Collects records and appends them as JSON lines; cheap to add to, written when asked."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pending: list[DataclassInstance] = []

    def add(self, record: DataclassInstance) -> None:
        """Take a record, which must not change any more."""
        self._pending.append(record)

    def flush(self) -> None:
        """Append what was added since the last flush, whole lines in one write."""
        records, self._pending = self._pending, []
        lines = [json.dumps(asdict(record), separators=(",", ":")) for record in records]
        if lines:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a+b") as file:
                # A killed run may have left a torn line without an end: what is added must not become a part of it.
                torn = file.tell() > 0 and file.seek(-1, os.SEEK_END) >= 0 and file.read(1) != b"\n"
                file.write(("\n" * torn + "\n".join(lines) + "\n").encode())


def read_lines(path: Path, kind: type[R]) -> list[R]:
    """The records of a file, empty where there is none. A torn last line (a killed run) is left out.

    Unknown keys are ignored and absent optional ones take their default, so that files of other versions can be read.
    """
    if not path.exists():
        return []
    records = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            records.append(from_plain(kind, json.loads(text)))
        except (ValueError, TypeError, AttributeError):  # torn, without a required key, no object at all
            continue
    return records


def from_plain(kind: type[R], values: Mapping[str, Any]) -> R:
    """A record from parsed JSON. Raises TypeError where a required key is absent."""
    names = {f.name for f in dataclasses.fields(kind)}
    return kind(**{key: value for key, value in values.items() if key in names})


def write_info(path: Path, info: DataclassInstance) -> None:
    """Write a RankInfo or SamplerInfo, atomically."""
    write_json(path, asdict(info))


def read_sampler_info(path: Path) -> SamplerInfo:
    """Read what `write_info` wrote. Raises FileError."""
    values = dict(read_json(path))
    values["devices"] = [from_plain(DeviceInfo, device) for device in values.get("devices", [])]
    values["missing"] = [from_plain(Missing, item) for item in values.get("missing", [])]
    return from_plain(SamplerInfo, values)


def read_rank_infos(profile: Path) -> dict[int, RankInfo]:
    """The ranks of a profile folder, by rank."""
    infos: Iterable[RankInfo] = (from_plain(RankInfo, read_json(path)) for path in profile.glob("rank*.json"))
    return {info.rank: info for info in sorted(infos, key=lambda info: info.rank)}


def remove_records(profile: Path) -> None:
    """Remove the records of an earlier run, and nothing else that lies there."""
    for path in profile.iterdir():
        if RECORD_FILE.fullmatch(path.name):
            path.unlink(missing_ok=True)
