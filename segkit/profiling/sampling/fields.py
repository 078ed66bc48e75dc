"""NVML's numbered fields: several quantities of a GPU in one call."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from segkit.profiling.sampling.nvml import NO_FUNCTION, NOT_SUPPORTED, Handle, Nvml, NvmlError
from segkit.profiling.sampling.utilisation import value_of

WIDE = (2, 3, 4)  # nvmlValueType_t of 64 bits: a narrower byte counter overflows within a second
EVERY = 4  # readings; NVML's own measurement of PCIe traffic takes 20 ms (without the GIL)


class Fields:
    """The wanted fields of a GPU, as of the last `read`."""

    def __init__(self, nvml: Nvml, gpu: Handle, wanted: Sequence[int]) -> None:
        self._nvml, self._gpu = nvml, gpu
        self._wanted = list(wanted)
        self._values: dict[int, Any] = {}

    def read(self) -> None:
        """Ask for all fields. Raises NvmlError only where the device is lost."""
        if not self._wanted:
            return
        try:
            values = self._nvml.call("nvmlDeviceGetFieldValues", self._gpu, self._wanted)
        except NvmlError as error:
            if error.lost:
                raise
            self._values.update(dict.fromkeys(self._wanted, error))
            return
        self._values.update({value.fieldId: value for value in values})

    def value(self, field: int) -> tuple[float, int]:
        """A field's number and its nvmlValueType_t. Raises NvmlError."""
        value = self._values.get(field)
        if value is None:
            raise NvmlError(NO_FUNCTION)
        error = value if isinstance(value, NvmlError) else NvmlError(value.nvmlReturn) if value.nvmlReturn else None
        if error is not None:
            if error.lasting and field in self._wanted:
                self._wanted.remove(field)
            raise error
        return value_of(value.value, value.valueType), int(value.valueType)

    def milli(self, field: int) -> float:
        """A field that is in thousandths (mW, mJ). Raises NvmlError."""
        return self.value(field)[0] / 1000


class PcieRate:
    """Traffic over PCIe in one direction, bytes a second."""

    def __init__(self, nvml: Nvml, gpu: Handle, fields: Fields, field: int, counter: int) -> None:
        self._nvml, self._gpu, self._fields = nvml, gpu, fields
        self._field, self._counter = field, counter
        self._before: tuple[float, float] | None = None
        self._readings = 0

    def counted(self) -> float | None:
        """The mean since the last call, by the byte counter; None at first. Raises NvmlError."""
        count, kind = self._fields.value(self._field)
        if kind not in WIDE:
            raise NvmlError(NOT_SUPPORTED)
        before, self._before = self._before, (time.monotonic(), count)
        if before is None or count < before[1] or self._before[0] <= before[0]:
            return None
        return (count - before[1]) / (self._before[0] - before[0])

    def measured(self) -> float | None:
        """What NVML measures for 20 ms, at every fourth call; else None. Raises NvmlError."""
        self._readings += 1
        if self._readings % EVERY != 1:
            return None
        return float(self._nvml.call("nvmlDeviceGetPcieThroughput", self._gpu, self._counter)) * 1000  # kB/s
