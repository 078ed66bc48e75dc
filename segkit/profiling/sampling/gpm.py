"""GPM, the GPU's own activity counters (Hopper and later): how full the chip is, not only whether it is busy."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

from segkit.profiling.sampling.nvml import NO_FUNCTION, NO_PERMISSION, NOT_SUPPORTED, Device, Nvml, NvmlError

HOPPER = 9  # major compute capability
MEBIBYTE = 2**20
SPAN = 0.095  # seconds between two samples, at least: NVML renews the counters ten times a second


@dataclass(frozen=True)
class Activity:
    """Means between two readings; None where the device does not tell. Shares are 0 to 1."""

    sm: float | None = None
    tensor: float | None = None
    dram: float | None = None
    pcie_rx: float | None = None  # bytes a second, to the device
    pcie_tx: float | None = None  # bytes a second, from the device


class Gpm:
    """The counters of one device. Close it when done."""

    def __init__(self, nvml: Nvml, device: Device) -> None:
        """Take the first sample.

        Raises:
            NvmlError: the device or the driver has no GPM, or this user may not read it.
        """
        self._nvml, self._device = nvml, device
        self._samples: list[Any] = []
        self._taken = 0.0  # when the first of them was, monotonic
        self._check()
        try:
            self._samples = [nvml.call("nvmlGpmSampleAlloc") for _ in range(2)]
            self._take(self._samples[0])
        except NvmlError as error:
            self.close()
            raise NvmlError(error.code, _reason(error)) from None
        self._request = self._prepare()

    def read(self) -> Activity:
        """The activity since the last call; nothing where that was too short a time ago. Raises NvmlError."""
        if time.monotonic() - self._taken < SPAN:
            return Activity()
        before, now = self._samples
        self._take(now)
        self._request.sample1, self._request.sample2 = before, now
        self._samples = [now, before]
        self._nvml.call("nvmlGpmMetricsGet", self._request)
        metrics = self._request.metrics
        sm, tensor, dram, received, sent = (_value(metrics[index]) for index in range(5))
        return Activity(_share(sm), _share(tensor), _share(dram), _bytes(received), _bytes(sent))

    def close(self) -> None:
        """Free the samples; never raises."""
        for sample in self._samples:
            self._nvml.ask("nvmlGpmSampleFree", sample)
        self._samples = []

    def _check(self) -> None:
        try:
            support = self._nvml.call("nvmlGpmQueryDeviceSupport", self._device.gpu)
        except NvmlError as error:
            raise NvmlError(error.code, self._too_old() or _reason(error)) from None
        if not support.isSupportedDevice:
            raise NvmlError(NOT_SUPPORTED, self._too_old() or _reason(NvmlError(NOT_SUPPORTED)))

    def _too_old(self) -> str | None:
        capability = self._nvml.ask("nvmlDeviceGetCudaComputeCapability", self._device.gpu)
        if capability is None or capability[0] >= HOPPER:
            return None
        return "the GPU is older than the Hopper generation, the first with these counters"

    def _take(self, sample: Any) -> None:
        if self._device.instance is None:
            self._nvml.call("nvmlGpmSampleGet", self._device.handle, sample)
        else:
            self._nvml.call("nvmlGpmMigSampleGet", self._device.gpu, self._device.instance, sample)
        self._taken = time.monotonic()

    def _prepare(self) -> Any:
        """The request, made once: it is 19 kB."""
        api = self._nvml.api
        request = api.c_nvmlGpmMetricsGet_t()
        request.version = api.NVML_GPM_METRICS_GET_VERSION
        wanted = (
            api.NVML_GPM_METRIC_SM_UTIL,
            api.NVML_GPM_METRIC_ANY_TENSOR_UTIL,
            api.NVML_GPM_METRIC_DRAM_BW_UTIL,
            api.NVML_GPM_METRIC_PCIE_RX_PER_SEC,
            api.NVML_GPM_METRIC_PCIE_TX_PER_SEC,
        )
        request.numMetrics = len(wanted)
        for index, metric in enumerate(wanted):
            request.metrics[index].metricId = metric
        return request


def _reason(error: NvmlError) -> str:
    if error.code == NO_FUNCTION:
        return "the installed driver is too old for GPM"
    if error.code == NO_PERMISSION:
        return "the administrator allows the GPU's performance counters to root only"
    return error.why


def _value(metric: Any) -> float | None:
    return metric.value if metric.nvmlReturn == 0 and math.isfinite(metric.value) else None


def _share(percent: float | None) -> float | None:
    return None if percent is None else min(1.0, max(0.0, percent / 100))


def _bytes(mebibytes: float | None) -> float | None:
    return None if mebibytes is None else mebibytes * MEBIBYTE
