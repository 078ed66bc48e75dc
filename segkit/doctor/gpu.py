"""GPUs: the driver, CUDA, NVML, MIG, which devices are visible, and `--nv` given or forgotten."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segkit.container import APPTAINER, runtime
from segkit.doctor import hardware
from segkit.doctor.child import Answer, ask
from segkit.doctor.finding import Finding, failure, note, ok, warning
from segkit.profiling.sampling.devices import visible
from segkit.profiling.sampling.nvml import Device, Nvml, NvmlError

_GRANTS = ("SLURM_JOB_GPUS", "SLURM_STEP_GPUS", "SLURM_GPUS_ON_NODE", "CUDA_VISIBLE_DEVICES")
_NONE = ("", "-1", "NoDevFiles", "void")
# The oldest driver branch of a major CUDA version (CUDA's release notes, "minor version compatibility").
_BRANCHES = {11: "450", 12: "525", 13: "580"}
_INIT = {
    100: "the driver sees no device",
    101: "the driver sees no valid device",
    802: "the system is not ready yet (on machines with NVSwitch: the fabric manager does not run)",
    803: "the driver's library and the kernel module have different versions",
    804: "the forward-compatibility libraries do not support this GPU",
    999: "the driver fails for a reason it does not tell (often: the module nvidia_uvm is not loaded)",
}


@dataclass(frozen=True)
class Gpus:
    """What the rest of the doctor needs to know of the GPUs."""

    usable: bool = False  # the driver starts and sees at least one
    cuda: int = 0  # what the driver supports, as 12040 for 12.4
    findings: list[Finding] = field(default_factory=list)

    def too_old_for(self, built: str) -> str:
        """Why the driver cannot run what was built for CUDA `built`, e.g. "12.6"; "" where it can.

        A driver runs programs of its own major version and of older ones.
        """
        major = int(built.partition(".")[0]) if built[:1].isdigit() else 0
        if not self.cuda or not major or major <= self.cuda // 1000:
            return ""
        branch = f" (CUDA {major} needs driver {_BRANCHES[major]} or newer)" if major in _BRANCHES else ""
        return f"the driver supports CUDA {_version(self.cuda)}{branch}"

    @property
    def newer(self) -> str:
        """What to do about a driver that is too old."""
        return f"update the driver, or install a build for CUDA {self.cuda // 1000}"


def check_gpus(root: Path = Path("/"), environment: Mapping[str, str] = os.environ) -> Gpus:
    """Look at the GPUs from the kernel up."""
    driver = ask("segkit.doctor.driver_process", seconds=60)
    started = driver.values.get("init") == 0 and driver.values.get("devices", 0) > 0
    cuda = int(driver.values.get("version", 0))
    findings = [_driver(driver, root, environment), *_nvml(root, environment, started)]
    return Gpus(started, cuda, findings)


def _driver(driver: Answer, root: Path, environment: Mapping[str, str]) -> Finding:
    check = "gpu.driver"
    values = {"kernel_module": hardware.kernel_driver(root), **driver.values}
    if driver.died:
        return failure(check, f"starting CUDA {driver.died}", "No program can use a GPU.", "see nvidia-smi", **values)
    if not driver.values["loads"]:
        return _no_library(root, environment, values)
    if driver.values["init"] != 0:
        why = _INIT.get(driver.values["init"], f"CUDA error {driver.values['init']}")
        return _not_started(check, f"CUDA does not start: {why}", environment, values)
    if not driver.values["devices"]:
        return _not_started(check, "CUDA starts, but no GPU is visible to it", environment, values)
    module = f"driver {values['kernel_module']}, " if values["kernel_module"] else ""
    fact = f"{module}CUDA up to {_version(driver.values['version'])}, {_gpus(driver.values['devices'])} visible"
    return ok(check, fact, "Programs built for this CUDA or an older one run.", **values)


def _not_started(check: str, fact: str, environment: Mapping[str, str], values: dict[str, Any]) -> Finding:
    hidden = environment.get("CUDA_VISIBLE_DEVICES")
    if hidden in _NONE:
        fact += f" (CUDA_VISIBLE_DEVICES is {hidden!r})"
        return note(
            check, fact, "Everything runs on the CPU.", "unset it, or ask SLURM for a GPU (--gres=gpu:1)", **values
        )
    remedy = "see nvidia-smi; in a job, ask for a GPU (--gres=gpu:1); load nvidia_uvm (as root: nvidia-modprobe -u)"
    return failure(check, fact, "Everything runs on the CPU, though there is a driver.", remedy, **values)


def _no_library(root: Path, environment: Mapping[str, str], values: dict[str, Any]) -> Finding:
    """libcuda.so.1 is not there: no GPU at all, a driver that is not installed, or a container without it."""
    seen = hardware.pci_gpus(root) or hardware.device_files(root)
    granted = granted_gpus(environment)
    kind = runtime(root, environment)
    check = "gpu.driver"
    values |= {"pci": hardware.pci_gpus(root), "device_files": hardware.device_files(root), "granted": granted}
    if not seen and not values["kernel_module"] and not granted:
        return note(check, "no NVIDIA GPU", "Training and inference run on the CPU.", **values)
    what = "the host has an NVIDIA GPU" if seen or values["kernel_module"] else f"GPUs are granted ({granted})"
    if kind == APPTAINER:
        fact = f"{what}, but libcuda.so.1 is not in this container: --nv was forgotten"
        return failure(check, fact, "Everything runs on the CPU.", "start it as: apptainer run --nv", **values)
    if kind:
        fact = f"{what}, but libcuda.so.1 is not in this container"
        flag = "docker run --gpus all" if kind == "docker" else "podman run --device nvidia.com/gpu=all"
        return failure(check, fact, "Everything runs on the CPU.", f"start it as: {flag}", **values)
    fact = f"{what}, but the driver's libcuda.so.1 is not installed"
    return failure(check, fact, "Everything runs on the CPU.", "install NVIDIA's driver", **values)


def granted_gpus(environment: Mapping[str, str]) -> str:
    """What SLURM or the user grants, e.g. "SLURM_JOB_GPUS=0,1"; "" for nothing."""
    for name in _GRANTS:
        if environment.get(name, "") not in (*_NONE, "0" if name == "SLURM_GPUS_ON_NODE" else ""):
            return f"{name}={environment[name]}"
    return ""


# --- NVML ----------------------------------------------------------------------------------------


def _nvml(root: Path, environment: Mapping[str, str], started: bool) -> list[Finding]:
    try:
        nvml = Nvml()
    except NvmlError as error:
        return [_no_nvml(error, started)]
    try:
        return [*_devices(nvml), *_visible(nvml, environment)]
    finally:
        nvml.close()


def _no_nvml(error: NvmlError, started: bool) -> Finding:
    fact, check = f"NVML: {error.why}", "gpu.nvml"
    if error.code == 0:  # nvidia-ml-py is not installed
        return note(check, fact, "GPUs cannot be listed, nor sampled while training.", "pip install nvidia-ml-py")
    if not started:
        return note(check, fact, "GPUs cannot be listed, nor sampled while training.", code=error.code)
    meaning = "CUDA works, but the profiler cannot sample the GPUs."
    return warning(check, fact, meaning, "give the container libnvidia-ml.so.1 (NVIDIA_DRIVER_CAPABILITIES=utility)")


def _devices(nvml: Nvml) -> list[Finding]:
    try:
        gpus = nvml.gpus()
    except NvmlError as error:
        remedy = "see nvidia-smi; a GPU that was lost needs a reset by root"
        return [failure("gpu.nvml", f"NVML: {error.why}", "No GPU can be used.", remedy, code=error.code)]
    found = [ok("gpu.nvml", f"NVML answers, driver {nvml.driver() or 'unknown'}", "The profiler can sample the GPUs.")]
    for gpu in gpus:
        found += _device(nvml, gpu)
    return found


def _device(nvml: Nvml, gpu: Device) -> list[Finding]:
    values = {"uuid": gpu.uuid, "name": gpu.info.name, "pci": gpu.info.pci, "memory": gpu.info.memory_total}
    parts = nvml.mig_devices(gpu)
    fact = f"{gpu.info.name}{_memory(gpu)}  {gpu.uuid}"
    if gpu.mig_mode and not parts:
        remedy = "create instances (nvidia-smi mig -cgi ... -C), or turn MIG off"
        return [
            failure("gpu.device", f"{fact}, MIG on, but no instance", "CUDA cannot use this GPU.", remedy, **values)
        ]
    found = [ok("gpu.device", fact + (", MIG on" if parts else ""), "It can be used.", mig=bool(parts), **values)]
    for part in parts:
        more = {"uuid": part.uuid, "name": part.info.name, "parent": gpu.uuid, "memory": part.info.memory_total}
        meaning = "A program uses one MIG device at a time; several ranks on one GPU are not possible."
        found.append(note("gpu.mig", f"{part.info.name}{_memory(part)}  {part.uuid}", meaning, **more))
    return found


def _visible(nvml: Nvml, environment: Mapping[str, str]) -> list[Finding]:
    """Which of them CUDA_VISIBLE_DEVICES leaves, where it is set."""
    wanted = environment.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return []
    try:
        selection = visible(nvml, environment)
    except NvmlError:
        return []
    uuids = [device.uuid for device in selection.devices]
    fact = f"CUDA_VISIBLE_DEVICES={wanted}: {', '.join(uuids) or 'no GPU'}"
    if not uuids and wanted not in _NONE:
        remedy = "name GPUs by their UUID, or unset it"
        return [failure("gpu.visible", fact, "It names no GPU that is here.", remedy, visible=uuids)]
    return [note("gpu.visible", fact, "Only these are used.", visible=uuids)]


def _memory(device: Device) -> str:
    return f", {device.info.memory_total / 1e9:.0f} GB" if device.info.memory_total else ""


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _gpus(count: int) -> str:
    return f"{count} GPU" + "s" * (count != 1)
