"""Memory and utilisation of the GPUs, by NVML where it is there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector


class GpuCollector(Collector):
    """Asks the driver at each scrape. Without a driver, or without nvidia-ml-py, there are no such figures."""

    def __init__(self) -> None:
        self._devices: list[tuple[str, Any]] = []
        with contextlib.suppress(Exception):  # no package, no driver, no permission: all mean the same here
            import pynvml

            pynvml.nvmlInit()
            for index in range(pynvml.nvmlDeviceGetCount()):
                device = pynvml.nvmlDeviceGetHandleByIndex(index)
                self._devices.append((str(pynvml.nvmlDeviceGetUUID(device)), device))

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """A sample of each figure for each GPU that gives it; a figure that is not available is left out."""
        used = GaugeMetricFamily("segkit_gpu_memory_used_bytes", "Memory in use on the GPU.", labels=["gpu"])
        total = GaugeMetricFamily("segkit_gpu_memory_bytes", "Memory of the GPU.", labels=["gpu"])
        busy = GaugeMetricFamily("segkit_gpu_utilisation_ratio", "Share of time with a kernel.", labels=["gpu"])
        for uuid, device in self._devices:
            import pynvml

            with contextlib.suppress(pynvml.NVMLError):
                memory = pynvml.nvmlDeviceGetMemoryInfo(device)
                used.add_metric([uuid], memory.used)
                total.add_metric([uuid], memory.total)
            with contextlib.suppress(pynvml.NVMLError):
                busy.add_metric([uuid], pynvml.nvmlDeviceGetUtilizationRates(device).gpu / 100)
        yield from (used, total, busy)
