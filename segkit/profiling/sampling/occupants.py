"""The devices on which a process and its descendants compute: for a program that was not written with segkit."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from segkit.profiling.records import Missing
from segkit.profiling.sampling.devices import WHICH, Selection, visible
from segkit.profiling.sampling.nvml import Device, Nvml, NvmlError
from segkit.profiling.sampling.process_tree import ProcessTree

LOOK_SECONDS = 1.0  # between two looks at who computes where
HIDDEN_LOOKS = 3  # after so many looks at a program that has CUDA loaded, the driver will not name it any more
HIDDEN = (
    "the driver does not name this program's processes (a container may hide them); shown are all GPUs that it may use"
)
UNSEEN = "no process of the program was seen computing on a GPU"


class Occupants:
    """Watches which devices a process tree computes on."""

    def __init__(self, nvml: Nvml, pid: int) -> None:
        """Raises NvmlError where there is no GPU at all."""
        self._nvml, self._tree = nvml, ProcessTree(pid)
        self._candidates: list[Device] = []
        for gpu in nvml.gpus():
            self._candidates += nvml.mig_devices(gpu) or [gpu]
        self._found = 0
        self._looks = 0
        self._next = 0.0

    def look(self) -> Selection:
        """Devices that the processes have come to use since the last look; empty between two looks."""
        now = time.monotonic()
        if now < self._next or not self._candidates:
            return Selection()
        self._next = now + LOOK_SECONDS
        pids = {self._tree.root, *self._tree.scan()}
        devices = [device for device in self._candidates if pids & self._processes(device)]
        self._found += len(devices)
        taken = {device.uuid for device in devices}
        self._candidates = [device for device in self._candidates if device.uuid not in taken]
        return Selection(devices) if self._found else self._guess(pids)

    @property
    def none_seen(self) -> bool:
        """Whether no device was found so far."""
        return not self._found

    def _processes(self, device: Device) -> set[int]:
        try:
            return self._nvml.processes(device)
        except NvmlError:
            return set()

    def _guess(self, pids: set[int]) -> Selection:
        """The visible devices of a program that has loaded CUDA, but which the driver does not name."""
        users = [pid for pid in pids if _has_cuda(pid)]
        self._looks = self._looks + 1 if users else 0
        if self._looks < HIDDEN_LOOKS:
            return Selection()
        selection = Selection()
        for pid in users:
            with contextlib.suppress(NvmlError):
                selection.devices += visible(self._nvml, environment_of(pid)).devices
        unique = {device.uuid: device for device in selection.devices}
        self._found, self._candidates = len(unique), []
        return Selection(list(unique.values()), [Missing(f"certainty about {WHICH}", HIDDEN)])


def _has_cuda(pid: int) -> bool:
    """Whether the process has loaded the CUDA driver, which happens at the first call of CUDA."""
    try:
        return b"libcuda.so" in Path(f"/proc/{pid}/maps").read_bytes()
    except OSError:
        return False


def environment_of(pid: int) -> dict[str, str]:
    """The environment that a process was started with; empty where it cannot be read."""
    try:
        entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return {}
    pairs = (entry.decode(errors="replace").partition("=") for entry in entries if entry)
    return {name: value for name, _, value in pairs}
