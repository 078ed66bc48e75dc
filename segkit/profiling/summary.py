"""What a profile says, as plain data: the one source of every report (terminal, HTML, Markdown, JSON).

`profiling.analysis` makes a `RunSummary` of a run directory's records. `summary_to_plain` gives the JSON.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from segkit.profiling.records import DeviceInfo, Missing

# The parts that a run's wall-clock time is divided into, in the order in which a reader meets them.
PARTS: dict[str, tuple[str, str]] = {
    "compute": ("forward and backward", "The device computes the net's output and its gradients."),
    "optim": ("optimiser step", "The device updates the weights."),
    "starved": ("waiting for the loader", "The device has nothing to do because the next batch is not ready."),
    "copy": ("copying to the device", "The batch travels from host to device while the device waits for it."),
    "sync": ("waiting for other ranks", "Gradients are averaged over ranks; includes waiting for the slowest."),
    "host": ("host between steps", "The device is idle for other reasons: logging, launching kernels, Python."),
    "validate": ("validation", "Batches of the validation split."),
    "checkpoint": ("checkpoints", "Writing the state to disk."),
    "other": ("other phases", "Anything else between steps that was marked."),
}


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval; `low` and `high` are None where there was too little to tell."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def relative_half_width(self) -> float | None:
        """Half of the interval over the value."""
        if self.low is None or self.high is None or not self.value:
            return None
        return (self.high - self.low) / 2 / abs(self.value)


@dataclass(frozen=True)
class EpochSummary:
    """One epoch of the whole run (all ranks)."""

    epoch: int  # from 0
    t: float  # Unix time of its beginning
    seconds: float
    images_per_s: float  # of its training steps
    shares: dict[str, float]  # by part; of all its seconds, sum 1


@dataclass(frozen=True)
class RankSummary:
    """One rank; seconds are means over its steps."""

    rank: int
    host: str
    device: str  # its name
    steps: int
    step_s: float
    wait_s: float  # for the loader, on the host
    starved_s: float  # of that, felt by the device
    copy_s: float | None
    compute_s: float | None
    sync_s: float | None
    waited_for_others_s: float | None  # all-reduce wait that slower ranks cost this one
    cost_others_s: float | None  # all-reduce wait that this rank cost each other rank, on average
    last_share: float | None  # share of the steps at which this rank was the last to arrive
    behind_s: Interval | None = None  # cost_others_s - waited_for_others_s, with its interval


@dataclass(frozen=True)
class Straggler:
    """The rank that the others waited for."""

    rank: int
    host: str
    cost_share: float  # share of the others' time that it cost
    cause: str  # "loader", "copy", "compute"
    sentence: str


@dataclass(frozen=True)
class DeviceSummary:
    """One GPU over the run; None where it could not be measured. Shares are 0 to 1."""

    info: DeviceInfo
    util: float | None
    sm: float | None
    tensor: float | None
    dram: float | None
    memory_peak: int | None  # bytes
    power_mean: float | None  # watts
    energy: float | None  # joules
    temperature_max: int | None
    throttled: dict[str, float]  # reason -> share of the samples
    series: dict[str, list[float | None]]  # "t" (Unix), "util", "sm", "tensor", "dram", "memory", "power", ...


@dataclass(frozen=True)
class HostSummary:
    """One node's CPU side over the run."""

    host: str
    cpus: int  # granted
    cpu_main: float | None  # mean CPUs used
    cpu_workers: float | None
    read: float | None  # mean bytes a second
    series: dict[str, list[float | None]]  # "t", "cpu_main", "cpu_workers", "read", "rss", "io_wait"
    io_wait: float | None = None  # mean share of the time in which something waited for storage
    queued_workers: float | None = None  # mean number of child processes that waited for a CPU
    cpu_machine: float | None = None  # mean CPUs busy on the whole node, other people's work included
    machine_cpus: int | None = None  # that the whole node has
    processes: int = 1  # ranks whose use of the node was sampled


@dataclass(frozen=True)
class Energy:
    """Electrical energy of the GPUs."""

    kwh: float
    wh_per_1000_images: float


@dataclass(frozen=True)
class WorkerPoint:
    """One loader setting that was tried, or only predicted."""

    workers: int
    images_per_s: Interval | None  # measured
    predicted: float | None  # by the model from the parts
    loader: str = ""
    chosen: bool = False


@dataclass(frozen=True)
class Variant:
    """Another detail of the chosen setting, measured in turns with it."""

    name: str  # e.g. "a prefetch of 4"
    flags: str  # e.g. "--prefetch 4"
    images_per_s: Interval
    gain: float  # over the chosen setting, e.g. 0.03
    pays: bool  # the gain is at least 3 % and more than noise


@dataclass(frozen=True)
class Stalls:
    """Differential stall analysis: rates in images/s, shares of the time of a step of the real pipeline."""

    compute: Interval  # synthetic batches that are on the device already
    warm: Interval  # the real pipeline, files in the page cache
    cold: Interval | None  # the real pipeline, files not in the page cache; None where that could not be arranged
    prep_stall: Interval  # share of the time lost to decoding and collating (compute - warm)
    fetch_stall: Interval | None  # share of the time lost to storage (warm - cold)
    copy_share: Interval | None  # share of a step in which the batch was copied
    notes: list[str] = field(default_factory=list)  # what limits the measurement, e.g. "page cache not dropped: ..."


@dataclass(frozen=True)
class Verification:
    """Whether a prediction held."""

    workers: int
    loader: str
    predicted: float  # images/s
    measured: Interval
    holds: bool  # within 10 %


@dataclass(frozen=True)
class Differential:
    """What `segkit profile` measured beyond a run's records."""

    stalls: Stalls
    curve: list[WorkerPoint]
    verification: Verification | None
    settings: dict[str, Any]  # model, batch, loader, prefetch, device, threads, granted CPUs, ...
    variants: list[Variant] = field(default_factory=list)


@dataclass(frozen=True)
class Verdict:
    """What bounds this job, and what to change."""

    kind: str  # see profiling.advice.KINDS
    title: str  # a few words: "Decoding bounds this job"
    sentence: str  # the verdict in a sentence or two, with figures
    advice: list[str]  # what to change, most effective first, with what to expect
    sure: str  # how sure, and why


@dataclass(frozen=True)
class RunSummary:
    """A whole run."""

    name: str  # folder name
    path: str
    description: dict[str, str]  # label -> value: net, data, loader, workers, batch, precision, host, started, version
    started: float | None  # Unix time
    seconds: float  # wall-clock, first step's beginning to the last record; without steps, of the samples
    steps: int  # of a rank
    images: int  # over all ranks
    images_per_s: Interval | None  # steady state of the training steps
    parts: dict[str, float]  # seconds by part, mean over ranks; together `seconds`
    hidden_wait_s: float  # loader wait that queued work hid from the device, mean over ranks
    epochs: list[EpochSummary]
    ranks: list[RankSummary]
    straggler: Straggler | None
    devices: list[DeviceSummary]
    hosts: list[HostSummary]
    energy: Energy | None
    missing: list[Missing]
    differential: Differential | None
    verdict: Verdict | None
    wait_cpu_share: float | None = None  # share of the wait in which the waiting thread worked; None: it never waited

    def share(self, part: str) -> float:
        """The part's share of the wall-clock time."""
        return self.parts.get(part, 0.0) / self.seconds if self.seconds else 0.0


def summary_to_plain(summary: RunSummary) -> dict[str, Any]:
    """As JSON values; the keys are the fields' names."""
    return asdict(summary)
