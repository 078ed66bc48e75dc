"""GPU utilisation: the share of time with at least one kernel running, as the driver has measured it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from segkit.profiling.sampling.nvml import NOT_FOUND, Handle, Nvml, NvmlError


class Utilisation:
    """Means over the driver's own measurements, of which it buffers several a second.

    Each measurement is for the time from the one before it, so it weighs as much as it lasts. Where the driver has no
    buffer, or nothing new in it, its latest period stands: what nvidia-smi shows.
    """

    def __init__(self, nvml: Nvml, handle: Handle) -> None:
        self._nvml, self._handle = nvml, handle
        self._buffered = True
        self._seen = 0  # the driver's clock, microseconds
        try:
            samples = self._fetch(0)
        except NvmlError as error:
            self._buffered = not error.lasting
        else:
            self._seen = max((when for when, _ in samples), default=0)

    def read(self) -> float:
        """0 to 1, the mean since the last call. Raises NvmlError."""
        mean = self._buffer_mean() if self._buffered else None
        return self._latest() if mean is None else mean

    def _buffer_mean(self) -> float | None:
        """None where the buffer holds nothing new."""
        try:
            # The last one seen is asked for again: if it is still there, nothing was lost in between.
            samples = self._fetch(max(0, self._seen - 1))
        except NvmlError as error:
            if error.lost:
                raise
            self._buffered = not error.lasting
            return None
        mean = time_weighted(samples, self._seen)
        self._seen = max((when for when, _ in samples), default=self._seen)
        return mean

    def _fetch(self, since: int) -> list[tuple[int, float]]:
        """Measurements after `since`: the end of each (microseconds) and its share, 0 to 1."""
        try:
            kind, samples = self._nvml.call(
                "nvmlDeviceGetSamples", self._handle, self._nvml.api.NVML_GPU_UTILIZATION_SAMPLES, since
            )
        except NvmlError as error:
            if error.code == NOT_FOUND:  # nothing new
                return []
            raise
        return [(int(s.timeStamp), value_of(s.sampleValue, kind) / 100) for s in samples if s.timeStamp > since]

    def _latest(self) -> float:
        return float(self._nvml.call("nvmlDeviceGetUtilizationRates", self._handle).gpu / 100)


def time_weighted(samples: Sequence[tuple[int, float]], seen: int) -> float | None:
    """Mean of the measurements that ended after `seen`, by how long each lasted; None where there is none.

    If the measurement that ended at `seen` is no longer among them, the driver's buffer overflowed, and it is unknown
    when the first of the others began: that one then only marks a beginning, unless it is alone.
    """
    ordered = sorted(set(samples))
    fresh = [sample for sample in ordered if sample[0] > seen]
    if not fresh:
        return None
    start = seen if any(when == seen for when, _ in ordered) else None
    if start is None and len(fresh) > 1:
        start, fresh = fresh[0][0], fresh[1:]
    total = weight = 0.0
    for when, share in fresh:
        lasted = 1 if start is None else when - start
        total, weight, start = total + share * lasted, weight + lasted, when
    return min(1.0, total / weight) if weight else None


def value_of(value: Any, kind: int) -> float:
    """The number in an nvmlValue_t of this nvmlValueType_t."""
    return float(getattr(value, ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")[kind]))
