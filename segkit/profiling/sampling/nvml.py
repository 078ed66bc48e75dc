"""NVML behind a few typed calls. What fails says why in plain words; devices go by UUID, MIG devices too.

Every failure of NVML is an `NvmlError`; none of pynvml's own exceptions leave this module.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

from segkit.profiling.records import DeviceInfo

Handle = Any  # ctypes' pointer to NVML's opaque device

INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND, NO_DRIVER = 2, 3, 4, 6, 9
NO_LIBRARY, NO_FUNCTION, IS_LOST, RESET_REQUIRED, BLOCKED = 12, 13, 15, 16, 17
VERSIONS_DIFFER, BAD_VERSION, DEPRECATED, NO_GPU = 18, 25, 26, 28

REASONS = {
    1: "the NVIDIA driver's library was closed",
    INVALID_ARGUMENT: "the driver does not accept the question for this device",
    NOT_SUPPORTED: "the device does not support it",
    NO_PERMISSION: "this user has no permission to ask the driver for it",
    NOT_FOUND: "the driver does not know it",
    NO_DRIVER: "the NVIDIA driver is not loaded",
    10: "the driver did not answer in time",
    NO_LIBRARY: "the driver's library libnvidia-ml.so.1 was not found",
    NO_FUNCTION: "the installed driver is too old for it",
    IS_LOST: "the GPU fell off the bus or is otherwise lost",
    RESET_REQUIRED: "the GPU has to be reset",
    BLOCKED: "the system or container blocks access to the driver",
    VERSIONS_DIFFER: "the NVIDIA driver's library and its kernel module have different versions; "
    "reboot, or reload the driver",
    21: "the driver has no data",
    BAD_VERSION: "the installed driver is too old for it",
    DEPRECATED: "the installed driver no longer offers it",
    NO_GPU: "no NVIDIA GPU was found",
}

# After these a device cannot be asked for anything any more.
LOST = frozenset({1, IS_LOST, RESET_REQUIRED, NO_GPU})
# These answers will be the same next time.
LASTING = frozenset({INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION, NO_FUNCTION, BLOCKED, BAD_VERSION, DEPRECATED})


class NvmlError(Exception):
    """NVML could not answer."""

    def __init__(self, code: int, why: str | None = None) -> None:
        self.code = code  # nvmlReturn_t; 0 where the reason is not NVML's
        self.why = why or REASONS.get(code, f"the driver answered with NVML error {code}")
        super().__init__(self.why)

    @property
    def lost(self) -> bool:
        """Whether the device is gone."""
        return self.code in LOST

    @property
    def lasting(self) -> bool:
        """Whether asking again is in vain."""
        return self.code in LASTING


@dataclass(frozen=True)
class Device:
    """A GPU, or a MIG device: a slice of one."""

    info: DeviceInfo
    handle: Handle
    gpu: Handle  # of the whole GPU; `handle` itself unless it is a MIG device
    instance: int | None = None  # the GPU instance that a MIG device belongs to
    mig_mode: bool = False  # a whole GPU that is divided into MIG devices

    @property
    def uuid(self) -> str:
        """GPU-... or MIG-..."""
        return self.info.uuid


class Nvml:
    """NVML, open. Close it when done."""

    def __init__(self) -> None:
        """Load the driver's library.

        Raises:
            NvmlError: nvidia-ml-py is not installed, there is no driver, or it cannot be used.
        """
        try:
            import pynvml
        except ImportError:
            raise NvmlError(0, "the package nvidia-ml-py is not installed; pip install nvidia-ml-py") from None
        self.api: Any = pynvml
        self.call("nvmlInit")

    def close(self) -> None:
        """Give the library back; never raises."""
        with contextlib.suppress(NvmlError):
            self.call("nvmlShutdown")

    def call(self, name: str, *arguments: Any) -> Any:
        """Call pynvml's function `name`. Raises NvmlError."""
        function = getattr(self.api, name, None)
        if function is None:
            raise NvmlError(NO_FUNCTION, "the installed nvidia-ml-py is too old for it")
        try:
            return function(*arguments)
        except self.api.NVMLError as error:
            raise NvmlError(error.value) from None
        except self.api.NVMLLibraryMismatchError:
            raise NvmlError(NO_FUNCTION) from None

    def ask(self, name: str, *arguments: Any) -> Any:
        """Like `call`, but None where NVML cannot answer."""
        try:
            return self.call(name, *arguments)
        except NvmlError:
            return None

    def driver(self) -> str | None:
        """The driver's version."""
        return _text(self.ask("nvmlSystemGetDriverVersion"))

    def gpus(self) -> list[Device]:
        """The whole GPUs that this process may use, in order of their PCI address.

        Raises:
            NvmlError: there is none, or none that may be used.
        """
        found, refused = [], NvmlError(NO_GPU)
        for index in range(self.call("nvmlDeviceGetCount")):
            try:
                found.append(self.describe(self.call("nvmlDeviceGetHandleByIndex", index)))
            except NvmlError as error:  # of another job, or broken: CUDA does not count it either
                refused = error
        if not found:
            raise refused
        return sorted(found, key=lambda device: (device.info.pci or "").lower())

    def mig_devices(self, gpu: Device) -> list[Device]:
        """The MIG devices of a GPU, in NVML's order; empty where MIG is off."""
        if not gpu.mig_mode:
            return []
        count = self.ask("nvmlDeviceGetMaxMigDeviceCount", gpu.gpu) or 0
        handles = [self.ask("nvmlDeviceGetMigDeviceHandleByIndex", gpu.gpu, index) for index in range(count)]
        return [self.describe(handle) for handle in handles if handle is not None]

    def find(self, uuid: str) -> Device:
        """The device with this UUID. Raises NvmlError."""
        try:
            return self.describe(self.call("nvmlDeviceGetHandleByUUID", uuid))
        except NvmlError as error:
            if error.code in (NOT_FOUND, INVALID_ARGUMENT):
                raise NvmlError(error.code, "the driver does not know this device") from None
            raise

    def find_pci(self, address: str) -> Device:
        """The GPU at a PCI address like 00000000:3B:00.0. Raises NvmlError."""
        return self.describe(self.call("nvmlDeviceGetHandleByPciBusId", address))

    def processes(self, device: Device) -> set[int]:
        """Process ids that compute on the device, as this process would call them. Raises NvmlError."""
        try:
            found = self.call("nvmlDeviceGetComputeRunningProcesses_v3", device.handle)
        except NvmlError as error:
            if error.code != NO_FUNCTION:
                raise
            found = self.call("nvmlDeviceGetComputeRunningProcesses_v2", device.handle)
        return {int(process.pid) for process in found}

    def memory(self, handle: Handle) -> Any:
        """nvmlMemory_t, with what the driver reserves for itself counted apart where it can. Raises NvmlError."""
        try:
            return self.call("nvmlDeviceGetMemoryInfo", handle, self.api.nvmlMemory_v2)
        except NvmlError as error:
            if error.code not in (NO_FUNCTION, BAD_VERSION, NOT_SUPPORTED, INVALID_ARGUMENT):
                raise
            return self.call("nvmlDeviceGetMemoryInfo", handle)

    def describe(self, handle: Handle) -> Device:
        """What is fixed about a device. Raises NvmlError where it has no UUID."""
        uuid = _text(self.call("nvmlDeviceGetUUID", handle)) or ""
        mig = bool(getattr(self.ask("nvmlDeviceIsMigDeviceHandle", handle), "value", 0))
        gpu = self.call("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", handle) if mig else handle
        limit = None if mig else self.ask("nvmlDeviceGetEnforcedPowerLimit", handle)
        info = DeviceInfo(
            uuid=uuid,
            name=_text(self.ask("nvmlDeviceGetName", handle)) or "unnamed",
            pci=_text(getattr(self.ask("nvmlDeviceGetPciInfo", gpu), "busId", None)),
            memory_total=self._memory_total(handle),
            power_limit=limit / 1000 if limit is not None else None,
            mig=mig,
            parent=_text(self.ask("nvmlDeviceGetUUID", gpu)) if mig else None,
        )
        mode = None if mig else self.ask("nvmlDeviceGetMigMode", handle)
        return Device(
            info,
            handle,
            gpu,
            instance=self.ask("nvmlDeviceGetGpuInstanceId", handle) if mig else None,
            mig_mode=bool(mode and mode[0]),
        )

    def _memory_total(self, handle: Handle) -> int | None:
        try:
            return int(self.memory(handle).total)
        except NvmlError:
            return None


def _text(value: str | bytes | None) -> str | None:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
