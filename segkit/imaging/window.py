"""Intensities to 8 bits: MRI has no units, so each volume is windowed by its own foreground."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segkit.imaging.scan import Scan

PERCENTILES = (0.5, 99.5)  # of the foreground, become 0 and 255
NOISE = 0.05  # of the upper percentile: what is darker is air, whose share must not move the window
_MAX_SAMPLE = 2**22  # voxels that the percentiles are taken from; of more, every n-th is taken
_LAYERS = 4  # of padding in padding
_ROUNDS = 8  # of finding the foreground; two or three settle it


def scan_to_uint8(scan: Scan) -> NDArray[np.uint8]:
    """The pixels of a scan as a net wants them: `[slices, height, width, channels]` uint8.

    NIfTI and DICOM of 8 bits are windowed as well: those are raw intensities, a picture file has display values.
    """
    return to_uint8(scan.pixels, keep_uint8=scan.kind not in ("nifti", "dicom"))


def to_uint8(pixels: NDArray[Any], *, keep_uint8: bool = True) -> NDArray[np.uint8]:
    """Window `[slices, height, width, channels]` to 8 bits, each channel of the volume by itself.

    The window runs linearly between two percentiles of the foreground, so that padding and empty slices do
    not move it. Foreground are the finite voxels that are not padding and are brighter than air. Padding is
    a value that fills all eight corners; without it, the next one that does. NaN and constant channels become 0.
    """
    if pixels.dtype == np.uint8 and keep_uint8:
        return pixels
    out = np.zeros(pixels.shape, np.uint8)
    for channel in range(pixels.shape[-1]):
        window = _window(pixels[..., channel])
        if window is None:
            continue
        for plane, target in zip(pixels[..., channel], out[..., channel], strict=True):
            target[...] = _apply(plane, *window)
    return out


def _window(volume: NDArray[Any]) -> tuple[float, float] | None:
    """The two intensities that become 0 and 255; None for a constant volume."""
    padding = _padding(volume)
    sample = _sample(volume, padding)
    if not sample.size:
        return None
    lowest = threshold = float(sample.min())
    low, high = _percentiles(sample)
    for _ in range(_ROUNDS):
        raised = lowest + NOISE * (high - lowest)
        if not threshold < raised < high:  # settled, or an overflow
            break
        threshold = raised
        low, high = _percentiles(sample[sample > threshold])
    if high > low:
        return low, high
    # A foreground of one intensity (a binary volume) is told from its background.
    background = min([lowest, *padding])
    return (background, high) if high > background else None


def _percentiles(sample: NDArray[Any]) -> tuple[float, float]:
    low, high = np.percentile(sample.astype(np.float64), PERCENTILES)
    return float(low), float(high)


def _padding(volume: NDArray[Any]) -> list[float]:
    """The values that fill all corners, from the outside in: what resampling and defacing leave around an image.

    NaN is padding wherever it is. A value is none if nothing else is left.
    """
    values: list[float] = []
    for _ in range(_LAYERS):
        corners = {float(volume[at]) for at in itertools.product((0, -1), repeat=3)}
        finite = {value for value in corners if math.isfinite(value)}
        box = _box(volume, [*values, *finite])
        if len(finite) > 1 or box is None:
            break
        values += finite
        volume = volume[box]
    return values


def _box(volume: NDArray[Any], padding: list[float]) -> tuple[slice, ...] | None:
    """The smallest box around everything else; None if there is nothing else."""
    occupied = [np.zeros(length, bool) for length in volume.shape]
    for index, plane in enumerate(volume):
        inside = _inside(plane, padding)
        occupied[0][index] = inside.any()
        occupied[1] |= inside.any(axis=1)
        occupied[2] |= inside.any(axis=0)
    ends = [np.flatnonzero(axis) for axis in occupied]
    return tuple(slice(int(at[0]), int(at[-1]) + 1) for at in ends) if len(ends[0]) else None


def _sample(volume: NDArray[Any], padding: list[float]) -> NDArray[Any]:
    """The voxels that may be foreground, or every n-th of them: their order and number do not depend on padding."""
    count = sum(int(np.count_nonzero(_inside(plane, padding))) for plane in volume)
    step = max(1, -(-count // _MAX_SAMPLE))
    parts, skip = [], 0
    for plane in volume:
        values = plane[_inside(plane, padding)]
        parts.append(values[skip::step])
        skip = (skip - len(values)) % step
    return np.concatenate(parts)


def _inside(plane: NDArray[Any], padding: list[float]) -> NDArray[np.bool_]:
    wanted = np.isfinite(plane) if plane.dtype.kind == "f" else np.ones(plane.shape, bool)
    for value in padding:
        wanted &= plane != value
    return wanted


def _apply(plane: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    scaled: NDArray[Any] = plane.astype(np.float64)  # of every type, so that a copy in another type decides alike
    with np.errstate(all="ignore"):
        scaled -= low
        scaled *= 255.0 / (high - low)
        scaled = np.nan_to_num(scaled, copy=False, nan=0.0, posinf=255.0, neginf=0.0)
    np.clip(scaled, 0, 255, out=scaled)
    rounded: NDArray[np.uint8] = np.rint(scaled).astype(np.uint8)
    return rounded
