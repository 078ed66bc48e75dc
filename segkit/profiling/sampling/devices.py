"""Which devices a program uses, as NVML knows them: by UUID, whatever numbers CUDA or SLURM give them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from segkit.profiling.records import Missing
from segkit.profiling.sampling.nvml import Device, Nvml, NvmlError

if TYPE_CHECKING:
    import torch

VISIBLE, ORDER = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"
WHICH = "which GPUs are used"


@dataclass
class Selection:
    """Devices, and what could not be found or is uncertain."""

    devices: list[Device] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)


def torch_uuid(device: torch.device | str | int) -> str | None:
    """UUID of a torch CUDA device, GPU-... or MIG-...; None where it cannot be told.

    The device itself is asked, so it does not matter how CUDA_VISIBLE_DEVICES or SLURM have numbered it.
    """
    import torch

    place = torch.device(device)
    if place.type != "cuda" or not torch.cuda.is_available():
        return None
    index = torch.cuda.current_device() if place.index is None else place.index
    return uuid_of(torch.cuda.get_device_properties(index), index)


def uuid_of(properties: Any, index: int) -> str | None:
    """UUID of the device that CUDA calls `index` and that has these properties (of torch).

    They hold a UUID without its prefix, or in older versions of torch a PCI address, or neither; those of a MIG device
    may be the whole GPU's. In the last two cases it is the device of that index that CUDA_VISIBLE_DEVICES allows.
    """
    bare = str(getattr(properties, "uuid", "") or "").removeprefix("GPU-").removeprefix("MIG-")
    likely = f"GPU-{bare}" if bare else None
    try:
        nvml = Nvml()
    except NvmlError:
        return likely
    try:
        device = _by_properties(nvml, bare, properties)
        if device is not None and not device.mig_mode:
            return device.uuid
        devices = visible(nvml, os.environ).devices
        return devices[index].uuid if index < len(devices) else likely
    except NvmlError:
        return likely
    finally:
        nvml.close()


def _by_properties(nvml: Nvml, bare: str, properties: Any) -> Device | None:
    ways: list[tuple[Callable[[str], Device], str]] = []
    if bare:
        ways += [(nvml.find, f"MIG-{bare}"), (nvml.find, f"GPU-{bare}")]
    if hasattr(properties, "pci_bus_id"):
        domain, bus, slot = (getattr(properties, f"pci_{part}_id", 0) for part in ("domain", "bus", "device"))
        ways.append((nvml.find_pci, f"{domain:08X}:{bus:02X}:{slot:02X}.0"))
    for find, name in ways:
        try:
            return find(name)
        except NvmlError:
            continue
    return None


def named(nvml: Nvml, uuids: Sequence[str]) -> Selection:
    """The devices with these UUIDs, each once."""
    selection = Selection()
    for uuid in dict.fromkeys(uuids):
        try:
            selection.devices.append(nvml.find(uuid))
        except NvmlError as error:
            selection.missing.append(Missing(f"all measurements of {uuid}", error.why))
    return selection


def visible(nvml: Nvml, environment: Mapping[str, str]) -> Selection:
    """The devices that CUDA would show a program with these environment variables, in CUDA's order.

    Raises:
        NvmlError: there is no GPU at all.
    """
    gpus, missing = _in_cuda_order(nvml, nvml.gpus(), environment.get(ORDER, ""))
    wanted = environment.get(VISIBLE)
    if wanted is None:
        return Selection([_computing(nvml, gpu) for gpu in gpus])
    devices: list[Device] = []
    for word in wanted.split(","):
        device = _resolve(nvml, gpus, word.strip())
        if device is None:  # CUDA ignores what is not valid, and all behind it
            break
        devices.append(device)
    if len({device.uuid for device in devices}) < len(devices):  # CUDA refuses a repeated device
        devices = []
    if not devices:
        shown = f"{VISIBLE} is {wanted!r}"
        return Selection([], [Missing("GPU measurements", f"no GPU is visible to the program ({shown})")])
    by_number = any(word.strip()[:1].isdigit() for word in wanted.split(","))
    return Selection(devices, missing if by_number else [])


def _resolve(nvml: Nvml, gpus: Sequence[Device], word: str) -> Device | None:
    """One entry of CUDA_VISIBLE_DEVICES: a number, or the beginning of a UUID."""
    number = re.match(r"\+?\d+", word)  # CUDA reads "1st" as 1
    if number:
        index = int(number.group())
        return _computing(nvml, gpus[index]) if index < len(gpus) else None
    if word.upper().startswith("MIG-"):
        try:
            return nvml.find(word)
        except NvmlError:
            parts = [part for gpu in gpus for part in nvml.mig_devices(gpu)]
            return _only(parts, word)
    gpu = _only(gpus, word) if word.upper().startswith("GPU-") else None
    return None if gpu is None else _computing(nvml, gpu)


def _only(devices: Sequence[Device], prefix: str) -> Device | None:
    """The one device whose UUID begins so; None where several do, or none."""
    found = [device for device in devices if device.uuid.lower().startswith(prefix.lower())]
    return found[0] if len(found) == 1 else None


def _computing(nvml: Nvml, gpu: Device) -> Device:
    """What CUDA computes on: of a GPU that is divided, the first MIG device."""
    return next(iter(nvml.mig_devices(gpu)), gpu)


def _in_cuda_order(nvml: Nvml, gpus: list[Device], order: str) -> tuple[list[Device], list[Missing]]:
    """GPUs (in PCI order) as CUDA numbers them: the fastest first, unless CUDA_DEVICE_ORDER is PCI_BUS_ID.

    How CUDA compares different models is not documented; the note says so where it matters.
    """
    speeds = [_speed(nvml, gpu) for gpu in gpus]
    if order == "PCI_BUS_ID" or len(set(speeds)) == 1:
        return gpus, []
    ranked = sorted(range(len(gpus)), key=lambda index: (*(-speed for speed in speeds[index]), index))
    why = f"the GPUs differ, and CUDA's order of them is only likely; set {ORDER}=PCI_BUS_ID to be certain"
    return [gpus[index] for index in ranked], [Missing(f"certainty about {WHICH}", why)]


def _speed(nvml: Nvml, gpu: Device) -> tuple[int, ...]:
    """Compute capability, then cores times clock."""
    capability = nvml.ask("nvmlDeviceGetCudaComputeCapability", gpu.handle) or (0, 0)
    cores = nvml.ask("nvmlDeviceGetNumGpuCores", gpu.handle) or 0
    clock = nvml.ask("nvmlDeviceGetMaxClockInfo", gpu.handle, nvml.api.NVML_CLOCK_SM) or 0
    return (*capability, cores * clock)
