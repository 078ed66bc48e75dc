"""All quantities of one device, each by the cheapest call that the driver and the device have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from segkit.profiling.records import DeviceSample
from segkit.profiling.sampling.fields import Fields, PcieRate
from segkit.profiling.sampling.gaps import Gaps
from segkit.profiling.sampling.gpm import Activity, Gpm
from segkit.profiling.sampling.metric import Metric
from segkit.profiling.sampling.nvml import Device, Nvml, NvmlError
from segkit.profiling.sampling.throttle import throttle_reasons
from segkit.profiling.sampling.utilisation import Utilisation

T = TypeVar("T")

GPM = "SM, tensor and DRAM activity (GPM)"


class DeviceReader:
    """Reads one device."""

    def __init__(self, nvml: Nvml, device: Device, gaps: Gaps) -> None:
        """Find out what the device can tell; the rest goes to `gaps`. Raises NvmlError where the device is lost."""
        self.device = device
        self._nvml, self._gaps = nvml, gaps
        self._metrics: list[Metric[Any]] = []
        self._first_energy: float | None = None
        self._gpm = self._open_gpm()
        self._add_common()
        if device.info.mig:
            self._add_mig()
        else:
            self._add_gpu()
        self._fields.read()
        self._since_begin(self._energy.read())

    def read(self, t: float) -> DeviceSample:
        """The sample for Unix time `t`. Raises NvmlError where the device is lost."""
        self._fields.read()
        activity = self._activity.read() or Activity()
        return DeviceSample(
            t=t,
            gpu=self.device.uuid,
            util=self._util.read(),
            sm=activity.sm,
            tensor=activity.tensor,
            dram=activity.dram,
            memory=self._memory.read(),
            power=self._power.read(),
            energy=self._since_begin(self._energy.read()),
            sm_clock=self._sm_clock.read(),
            memory_clock=self._memory_clock.read(),
            temperature=self._temperature.read(),
            throttle=self._throttle.read(),
            pcie_rx=self._pcie_rx.read() if activity.pcie_rx is None else activity.pcie_rx,
            pcie_tx=self._pcie_tx.read() if activity.pcie_tx is None else activity.pcie_tx,
        )

    def close(self) -> None:
        """Note what never gave a value; free what NVML lent. Never raises."""
        for metric in self._metrics:
            metric.close()
        if self._gpm is not None:
            self._gpm.close()

    def _add_common(self) -> None:
        """Memory is a MIG device's own. Clocks, heat and throttling are the whole GPU's, and true of its parts too."""
        nvml, api, call = self._nvml, self._nvml.api, self._nvml.call
        gpu, own = self.device.gpu, self.device.handle
        self._memory = self._metric("memory in use", lambda: int(nvml.memory(own).used))
        self._sm_clock = self._metric("SM clock", lambda: int(call("nvmlDeviceGetClockInfo", gpu, api.NVML_CLOCK_SM)))
        self._memory_clock = self._metric(
            "memory clock", lambda: int(call("nvmlDeviceGetClockInfo", gpu, api.NVML_CLOCK_MEM))
        )
        self._temperature = self._metric(
            "temperature",
            lambda: int(call("nvmlDeviceGetTemperatureV", gpu, api.NVML_TEMPERATURE_GPU)),
            lambda: int(call("nvmlDeviceGetTemperature", gpu, api.NVML_TEMPERATURE_GPU)),
        )
        self._throttle = self._metric(
            "throttle reasons",
            lambda: throttle_reasons(call("nvmlDeviceGetCurrentClocksEventReasons", gpu)),
            lambda: throttle_reasons(call("nvmlDeviceGetCurrentClocksThrottleReasons", gpu)),
        )
        self._activity = self._metric(GPM, *([self._gpm.read] if self._gpm is not None else []))

    def _add_gpu(self) -> None:
        api, call, gpu = self._nvml.api, self._nvml.call, self.device.gpu
        power, energy = api.NVML_FI_DEV_POWER_AVERAGE, api.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION
        received, sent = api.NVML_FI_DEV_PCIE_COUNT_RX_BYTES, api.NVML_FI_DEV_PCIE_COUNT_TX_BYTES
        self._fields = fields = Fields(self._nvml, gpu, [power, energy, received, sent])
        self._util = self._metric("GPU utilisation", Utilisation(self._nvml, gpu).read)
        self._power = self._metric(
            "power", lambda: fields.milli(power), lambda: call("nvmlDeviceGetPowerUsage", gpu) / 1000
        )
        self._energy = self._metric(
            "energy", lambda: fields.milli(energy), lambda: call("nvmlDeviceGetTotalEnergyConsumption", gpu) / 1000
        )
        rx = PcieRate(self._nvml, gpu, fields, received, api.NVML_PCIE_UTIL_RX_BYTES)
        tx = PcieRate(self._nvml, gpu, fields, sent, api.NVML_PCIE_UTIL_TX_BYTES)
        self._pcie_rx = self._metric("PCIe traffic to the GPU", rx.counted, rx.measured)
        self._pcie_tx = self._metric("PCIe traffic from the GPU", tx.counted, tx.measured)

    def _add_mig(self) -> None:
        """What is measured for a whole GPU would be wrong for one of the MIG devices that share it."""
        self._fields = Fields(self._nvml, self.device.gpu, [])
        hint = "; SM activity (GPM) is measured" if self._gpm is not None else ""
        self._util = self._closed("GPU utilisation", f"NVML does not measure it for MIG devices{hint}")
        shared = "measured only for the whole GPU, which other MIG devices share"
        self._power, self._energy = self._closed("power", shared), self._closed("energy", shared)
        self._pcie_rx = self._pcie_tx = self._closed("PCIe traffic", shared)

    def _open_gpm(self) -> Gpm | None:
        try:
            return Gpm(self._nvml, self.device)
        except NvmlError as error:
            if error.lost:
                raise
            self._note(GPM, error.why)
            return None

    def _metric(self, what: str, *ways: Callable[[], T]) -> Metric[T]:
        metric = Metric(lambda why: self._note(what, why), *ways)
        self._metrics.append(metric)
        return metric

    def _closed(self, what: str, why: str) -> Metric[Any]:
        self._note(what, why)
        return self._metric(what)

    def _note(self, what: str, why: str) -> None:
        self._gaps.note(what, why, self.device.uuid)

    def _since_begin(self, joules: float | None) -> float | None:
        if joules is None:
            return None
        if self._first_energy is None or joules < self._first_energy:  # at first, or the driver was loaded anew
            self._first_energy = joules
        return joules - self._first_energy
