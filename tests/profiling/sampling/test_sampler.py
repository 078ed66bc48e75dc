from __future__ import annotations

import dataclasses
import json
import re
import socket
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from segkit.errors import ConfigError
from segkit.profiling.records import DeviceSample, HostSample, SamplerInfo, read_lines, read_sampler_info
from segkit.profiling.sampling.sampler import Sampler
from tests.profiling.conftest import NvmlStub

HOST = socket.gethostname()

# Samples for SECONDS, longer where the machine is so busy that no sample was taken, and tells the last reading.
PROGRAM = """
import json, sys, time
from dataclasses import asdict
from pathlib import Path
from segkit.profiling.sampling.sampler import Sampler
with Sampler(Path("profile"), devices=DEVICES, interval=0.1) as sampler:
    time.sleep(SECONDS)
    end, seen = time.monotonic() + 20, set()
    while len(seen) < LEAST and time.monotonic() < end:
        time.sleep(0.02)
        seen |= {sampler.latest()} - {None}
    latest = sampler.latest()
print(json.dumps(asdict(latest) if latest else None))
"""

H200 = """
driver 580.1
gpu GPU-aaaa 00000000:3B:00.0 NVIDIA-H200
total 100e9
used 25e9
power 500
energy 1e6
util 100 0 0.1
buffer 0.01 200
gpm 45 30 22 1000 10
reasons 0x45
temperature 61
clock 1980
"""

ALL = [
    "nvmlDeviceGetSamples",
    "nvmlDeviceGetUtilizationRates",
    "nvmlDeviceGetMemoryInfo",
    "nvmlDeviceGetMemoryInfo_v2",
    "nvmlDeviceGetFieldValues",
    "nvmlDeviceGetPowerUsage",
    "nvmlDeviceGetTotalEnergyConsumption",
    "nvmlDeviceGetClockInfo",
    "nvmlDeviceGetTemperatureV",
    "nvmlDeviceGetTemperature",
    "nvmlDeviceGetCurrentClocksEventReasons",
    "nvmlDeviceGetPcieThroughput",
    "nvmlGpmQueryDeviceSupport",
]

QUANTITIES = [field.name for field in dataclasses.fields(DeviceSample) if field.name not in ("t", "gpu")]


class Profile:
    """What a sampler wrote."""

    def __init__(self, folder: Path) -> None:
        self.samples = read_lines(folder / f"gpu-{HOST}.jsonl", DeviceSample)
        self.host = read_lines(folder / f"host-{HOST}.jsonl", HostSample)
        self.info: SamplerInfo = read_sampler_info(folder / f"sampler-{HOST}.json")
        self.missing = {item.what: item.why for item in self.info.missing}

    def of(self, uuid: str) -> list[DeviceSample]:
        return [sample for sample in self.samples if sample.gpu == uuid]


def program(devices: Sequence[str] | None = None, seconds: float = 0.35, least: int = 2) -> str:
    """PROGRAM with its figures."""
    values = {"DEVICES": devices, "SECONDS": seconds, "LEAST": least}
    return re.sub("|".join(values), lambda found: repr(values[found.group()]), PROGRAM)


def sampled(stub: NvmlStub, script: str, *, devices: Any = None, seconds: float = 0.35, **more: Any) -> Profile:
    """Sample the scripted machine."""
    stub.run(program(devices, seconds), script, **more)
    return Profile(stub.folder / "profile")


def test_every_quantity_of_a_gpu_that_has_them_all(nvml_stub: NvmlStub) -> None:
    profile = sampled(nvml_stub, H200, seconds=1.4)
    assert profile.missing == {}
    assert profile.info.driver == "580.1"
    assert [device.uuid for device in profile.info.devices] == ["GPU-aaaa"]
    samples = profile.samples
    assert len(samples) >= 7
    assert {s.memory for s in samples} == {25_000_000_000}  # without what the driver reserves for itself
    assert {s.power for s in samples} == {500.0}
    assert {s.sm_clock for s in samples} == {1980}
    assert {s.memory_clock for s in samples} == {3960}
    assert {s.temperature for s in samples} == {61}
    assert {(s.sm, s.tensor, s.dram) for s in samples} == {(0.45, 0.30, 0.22)}
    assert {(s.pcie_rx, s.pcie_tx) for s in samples} == {(1000 * 2**20, 10 * 2**20)}
    assert all(s.throttle == ["power limit", "temperature limit (hardware)"] for s in samples)
    utilisation = [s.util for s in samples if s.util is not None]
    assert len(utilisation) == len(samples)
    assert sum(utilisation) / len(utilisation) == pytest.approx(0.5, abs=0.12)  # half of the time 100 %


def test_energy_is_what_was_used_since_sampling_began(nvml_stub: NvmlStub) -> None:
    samples = sampled(nvml_stub, H200, seconds=1.0).samples
    assert samples[0].energy is not None
    assert 0 < samples[0].energy < 500
    for before, after in pairwise(samples):
        assert before.energy is not None
        assert after.energy is not None
        assert after.energy - before.energy == pytest.approx(500 * (after.t - before.t), abs=5)


def test_nothing_supported_is_null_with_a_reason_and_never_zero(nvml_stub: NvmlStub) -> None:
    script = H200 + "".join(f"fail {name} 3 -1 0\n" for name in ALL)
    profile = sampled(nvml_stub, script)
    assert profile.samples
    for sample in profile.samples:
        assert [getattr(sample, name) for name in QUANTITIES] == [None] * len(QUANTITIES)
    assert set(profile.missing) == {
        "GPU utilisation",
        "SM, tensor and DRAM activity (GPM)",
        "memory in use",
        "power",
        "energy",
        "SM clock",
        "memory clock",
        "temperature",
        "throttle reasons",
        "PCIe traffic to the GPU",
        "PCIe traffic from the GPU",
    }
    assert set(profile.missing.values()) == {"the device does not support it"}


@pytest.mark.parametrize("name", [name for name in ALL if name != "nvmlDeviceGetTemperature"])
def test_one_function_that_is_not_supported_takes_at_most_its_own_quantity(nvml_stub: NvmlStub, name: str) -> None:
    profile = sampled(nvml_stub, H200 + f"fail {name} 3 -1 0\n")
    lost = {q for q in QUANTITIES for s in profile.samples if getattr(s, q) is None}
    expected = {
        "nvmlDeviceGetClockInfo": {"sm_clock", "memory_clock"},
        "nvmlDeviceGetCurrentClocksEventReasons": {"throttle"},
        "nvmlGpmQueryDeviceSupport": {"sm", "tensor", "dram", "pcie_rx", "pcie_tx"},  # counters have no rate at first
    }
    assert lost == expected.get(name, set())


def test_an_old_driver_gives_what_it_has(nvml_stub: NvmlStub) -> None:
    profile = sampled(nvml_stub, H200.replace("driver 580.1", "driver 450.1") + "pcie 3e9 1e9\n", seconds=0.5, old=True)
    assert profile.missing == {"SM, tensor and DRAM activity (GPM)": "the installed driver is too old for GPM"}
    last = profile.samples[-1]
    assert (last.power, last.temperature, last.memory) == (500.0, 61, 26_000_000_000)  # here with the reserve
    assert last.throttle == ["power limit", "temperature limit (hardware)"]
    assert last.energy is not None
    measured = [(s.pcie_rx, s.pcie_tx) for s in profile.samples]
    assert measured[0] == (3e9, 1e9)
    assert measured[1] == (None, None)  # it takes 40 ms: not at every sample


def test_pcie_by_byte_counters(nvml_stub: NvmlStub) -> None:
    gpu = H200.replace("gpm 45 30 22 1000 10", "pcie 3e9 1e9")
    samples = sampled(nvml_stub, gpu).samples
    assert samples[0].pcie_rx is None  # a rate needs two readings
    for sample in samples[1:]:
        assert sample.pcie_rx == pytest.approx(3e9, rel=0.02)
        assert sample.pcie_tx == pytest.approx(1e9, rel=0.02)


def test_counters_that_overflow_within_a_second_are_not_used(nvml_stub: NvmlStub) -> None:
    gpu = H200.replace("gpm 45 30 22 1000 10", "pcie 3e9 1e9\nnarrow 1")
    assert {s.pcie_rx for s in sampled(nvml_stub, gpu).samples} == {3e9, None}


def test_a_mig_device(nvml_stub: NvmlStub) -> None:
    script = H200 + "migmode 1\nmig MIG-1111 3 H200-MIG\ntotal 20e9\nused 5e9\ngpm 80 70 60 -1 -1\n"
    script += "mig MIG-2222 4 H200-MIG\ngpm 1 2 3 -1 -1\n"
    profile = sampled(nvml_stub, script, devices=["MIG-1111"])
    device = profile.info.devices[0]
    assert (device.uuid, device.mig, device.parent, device.memory_total) == ("MIG-1111", True, "GPU-aaaa", 20 * 10**9)
    last = profile.samples[-1]
    assert (last.sm, last.tensor, last.dram, last.memory) == (0.8, 0.7, 0.6, 5 * 10**9)
    assert (last.sm_clock, last.temperature) == (1980, 61)  # true of the whole chip, and so of its part
    assert (last.util, last.power, last.energy, last.pcie_rx) == (None, None, None, None)
    assert "MIG" in profile.missing["GPU utilisation"]
    assert set(profile.missing) == {"GPU utilisation", "power", "energy", "PCIe traffic"}


def test_activity_is_that_of_the_interval_alone(nvml_stub: NvmlStub) -> None:
    activity = [sample.sm for sample in sampled(nvml_stub, H200 + "gpmfrom 0.4\n", seconds=1.0).samples]
    assert activity[0] == 0  # measured, and idle: that is not the same as None
    assert activity[-3:] == [0.45] * 3  # what was before the interval does not dilute it


def test_activity_is_not_asked_for_sooner_than_the_counters_are_renewed(nvml_stub: NvmlStub) -> None:
    nvml_stub.run(program(seconds=0.6).replace("interval=0.1", "interval=0.05"), H200)
    samples = Profile(nvml_stub.folder / "profile").samples
    assert {s.sm for s in samples} == {0.45, None}
    assert all(s.power == 500.0 for s in samples)


def test_no_gpm_before_hopper(nvml_stub: NvmlStub) -> None:
    profile = sampled(nvml_stub, H200 + "capability 8 0\n")
    assert "Hopper" in profile.missing["SM, tensor and DRAM activity (GPM)"]
    assert profile.samples[-1].sm is None


def test_counters_for_root_only(nvml_stub: NvmlStub) -> None:
    profile = sampled(nvml_stub, H200 + "fail nvmlGpmSampleGet 4 -1 0\n")
    assert "root only" in profile.missing["SM, tensor and DRAM activity (GPM)"]
    assert profile.samples[-1].util is not None


def test_a_lost_gpu_ends_its_own_samples_only(nvml_stub: NvmlStub) -> None:
    script = H200 + "lost 0.5\n" + H200.replace("GPU-aaaa 00000000:3B", "GPU-bbbb 00000000:5E")
    profile = sampled(nvml_stub, script, seconds=1.2)
    assert 0 < len(profile.of("GPU-aaaa")) < len(profile.of("GPU-bbbb"))
    assert len(profile.of("GPU-bbbb")) == len(profile.host)
    ((what, why),) = profile.missing.items()
    assert what.startswith("measurements of GPU-aaaa from ")
    assert "lost" in why


def test_a_gpu_that_is_lost_at_the_start(nvml_stub: NvmlStub) -> None:
    profile = sampled(nvml_stub, H200 + "fail nvmlGpmQueryDeviceSupport 15 0 0\n")
    assert profile.missing == {"all measurements": "the GPU fell off the bus or is otherwise lost"}
    assert profile.samples == []


def test_a_driver_mismatch_is_told_and_the_host_is_sampled(nvml_stub: NvmlStub) -> None:
    profile = sampled(nvml_stub, "fail nvmlInitWithFlags 18 -1 0\n" + H200)
    assert "different versions" in profile.missing["GPU measurements"]
    assert profile.samples == []
    assert profile.host[-1].cpu_main is not None


def test_no_gpu_is_visible(nvml_stub: NvmlStub) -> None:
    profile = sampled(nvml_stub, H200, CUDA_VISIBLE_DEVICES="")
    assert "CUDA_VISIBLE_DEVICES" in profile.missing["GPU measurements"]


def test_no_devices_wanted(nvml_stub: NvmlStub) -> None:
    profile = sampled(nvml_stub, H200, devices=[])
    assert (profile.samples, profile.missing) == ([], {})
    assert profile.host


def test_an_unknown_device_is_named(nvml_stub: NvmlStub) -> None:
    profile = sampled(nvml_stub, H200, devices=["GPU-zzzz", "GPU-aaaa"])
    assert profile.missing == {"all measurements of GPU-zzzz": "the driver does not know this device"}
    assert profile.of("GPU-aaaa")


def test_the_latest_reading_is_over_all_devices(nvml_stub: NvmlStub) -> None:
    script = "gpu GPU-a 00000000:3B:00.0 X\nutil 90 90 1\ntotal 10e9\nused 8e9\npower 300\n"
    script += "gpu GPU-b 00000000:5E:00.0 X\nutil 30 30 1\ntotal 30e9\nused 2e9\npower 100\n"
    latest = nvml_stub.run(program(seconds=0.5), script)
    assert latest["util"] == pytest.approx(0.6)
    assert latest["memory"] == pytest.approx(0.25)
    assert latest["power"] == 400


def test_without_gpus_the_latest_reading_tells_the_cpus(nvml_stub: NvmlStub) -> None:
    latest = nvml_stub.run(re.sub(r"time.sleep\(.*\)", "sum(range(300_000))", program([], least=3)), "")
    assert (latest["util"], latest["power"]) == (None, None)
    assert 0.0 < latest["cpus"] < 1.5


# --- it never harms the training -------------------------------------------------------------------


def test_files_that_cannot_be_written_are_no_error(nvml_stub: NvmlStub) -> None:
    (nvml_stub.folder / "profile").write_text("a file where the folder should be")
    assert nvml_stub.run(program(), H200)["power"] == 500  # `run` checks that nothing is on standard error


def test_a_fault_of_the_sampler_itself_is_told_not_raised(nvml_stub: NvmlStub) -> None:
    fault = "import pynvml; pynvml.c_nvmlGpmMetricsGet_t = None\n"  # as if the package had changed
    assert nvml_stub.run(fault + program(least=0), H200) is None
    missing = Profile(nvml_stub.folder / "profile").missing
    assert "TypeError" in missing["samples from some time on"]


def test_a_program_that_ends_without_stopping_it_loses_nothing(nvml_stub: NvmlStub) -> None:
    whole = program(seconds=0.6, least=4).replace("with Sampler(", "sampler = Sampler(")
    nvml_stub.run(whole.replace(") as sampler:", "); sampler.start()\nif True:"), H200)
    profile = Profile(nvml_stub.folder / "profile")
    assert len(profile.samples) >= 4
    assert len(profile.host) == len(profile.samples)


def test_a_driver_that_hangs_does_not_hold_the_program(nvml_stub: NvmlStub) -> None:
    profile = sampled(nvml_stub, H200 + "fail nvmlDeviceGetFieldValues -1 -1 3\n", seconds=0.8)
    assert len(profile.samples) == 2
    assert "has not answered" in profile.missing["samples to the end"]


def test_samples_are_appended_to_those_of_an_earlier_session(nvml_stub: NvmlStub) -> None:
    first = len(sampled(nvml_stub, H200).samples)
    assert len(sampled(nvml_stub, H200).samples) > first


@pytest.mark.parametrize("interval", [0.0, -1.0, 0.01, float("nan"), float("inf")])
def test_the_interval_is_checked(tmp_path: Path, interval: float) -> None:
    with pytest.raises(ConfigError, match="interval"):
        Sampler(tmp_path, devices=[], interval=interval)


def test_files_are_json_lines(nvml_stub: NvmlStub) -> None:
    sampled(nvml_stub, H200)
    lines = (nvml_stub.folder / "profile" / f"gpu-{HOST}.jsonl").read_text().splitlines()
    assert all(set(json.loads(line)) == {"t", "gpu", *QUANTITIES} for line in lines)
