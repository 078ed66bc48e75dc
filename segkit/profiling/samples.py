"""The samplers' files of a profile, as summaries of devices and hosts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from segkit.profiling.records import (
    DeviceInfo,
    DeviceSample,
    HostSample,
    Missing,
    SamplerInfo,
    read_lines,
    read_sampler_info,
)
from segkit.profiling.summary import DeviceSummary, HostSummary

DEVICE_SERIES = (
    "t",
    "util",
    "sm",
    "tensor",
    "dram",
    "memory",
    "power",
    "temperature",
    "sm_clock",
    "pcie_rx",
    "pcie_tx",
)
HOST_SERIES = ("t", "cpu_main", "cpu_workers", "cpu_machine", "read", "io_wait", "rss")


@dataclass(frozen=True)
class NodeSamples:
    """What one node's sampler saw."""

    host: HostSummary
    devices: list[DeviceSummary]
    missing: list[Missing]


def read_nodes(folder: Path) -> list[NodeSamples]:
    """The nodes of a profile folder, by host name."""
    return [_node(folder, read_sampler_info(path)) for path in sorted(folder.glob("sampler-*.json"))]


def _node(folder: Path, info: SamplerInfo) -> NodeSamples:
    by_device: dict[str, list[DeviceSample]] = defaultdict(list)
    for sample in read_lines(folder / f"gpu-{info.host}.jsonl", DeviceSample):
        by_device[sample.gpu].append(sample)
    hosts = read_lines(folder / f"host-{info.host}.jsonl", HostSample)
    devices = [_device(device, by_device.get(device.uuid, [])) for device in info.devices]
    return NodeSamples(_host(info, hosts), devices, info.missing)


def _device(info: DeviceInfo, samples: Sequence[DeviceSample]) -> DeviceSummary:
    series = {name: [getattr(s, name) for s in samples] for name in DEVICE_SERIES}
    memory, temperature = known(series["memory"]), known(series["temperature"])
    return DeviceSummary(
        info=info,
        util=mean(series["util"]),
        sm=mean(series["sm"]),
        tensor=mean(series["tensor"]),
        dram=mean(series["dram"]),
        memory_peak=int(max(memory)) if memory else None,
        power_mean=mean(series["power"]),
        energy=_energy(samples),
        temperature_max=int(max(temperature)) if temperature else None,
        throttled=_throttled(samples),
        series=series,
    )


def _throttled(samples: Sequence[DeviceSample]) -> dict[str, float]:
    told = [s.throttle for s in samples if s.throttle is not None]
    counts = Counter(reason for reasons in told for reason in reasons)
    return {reason: count / len(told) for reason, count in counts.most_common()}


def _energy(samples: Sequence[DeviceSample]) -> float | None:
    """Joules: the counter's last value, for each session of the run; else the power over time."""
    counted = known([s.energy for s in samples])
    if counted:
        # A resumed run's counter starts again from 0: each fall ends a session.
        falls = [before for before, after in pairwise(counted) if after < before]
        return sum(falls) + counted[-1]
    powered = [(s.t, s.power) for s in samples if s.power is not None]
    if len(powered) < 2:
        return None
    t, power = np.array(powered).T
    gaps = np.diff(t)
    usual = float(np.median(gaps)) * 5  # a longer gap is a pause between sessions
    return float(np.sum((power[1:] + power[:-1]) / 2 * gaps * (gaps <= usual)))


def _host(info: SamplerInfo, samples: Sequence[HostSample]) -> HostSummary:
    series = {name: [getattr(s, name) for s in samples] for name in HOST_SERIES}
    return HostSummary(
        host=info.host,
        cpus=info.cpus,
        cpu_main=mean(series["cpu_main"]),
        cpu_workers=mean(series["cpu_workers"]),
        read=mean(series["read"]),
        series=series,
        io_wait=mean(series["io_wait"]),
        queued_workers=mean([sample.queued_workers for sample in samples]),
        cpu_machine=mean(series["cpu_machine"]),
        machine_cpus=info.machine_cpus,
        processes=info.processes,
    )


def total_energy(devices: Sequence[DeviceSummary]) -> float | None:
    """Joules of all devices; None where none told."""
    told = known([device.energy for device in devices])
    return sum(told) if told else None


def known(values: Sequence[float | None]) -> list[float]:
    """The values that are there."""
    return [value for value in values if value is not None]


def mean(values: Sequence[float | None]) -> float | None:
    """Mean of the values that are there; None where none is."""
    there = known(values)
    return float(np.mean(there)) if there else None
