"""Intensities to 8 bits: MRI has no units, so each volume is windowed by its own foreground."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segkit.imaging.scan import Scan

PERCENTILES = (0.5, 99.5)  # of the foreground, become 0 and 255
NOISE = 0.05  # of the upper percentile: what is darker is air, whose share must not move the window
_MAX_SAMPLE = 2**24  # voxels that the percentiles are taken from; of more, every n-th is taken
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
    the smallest value of the volume and, where the eight corners agree on one, that value. NaN and constant
    channels become 0.
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
    lowest = _minimum(volume)
    padding = _padding(volume)
    sample = _sample(volume, lowest, padding)
    if not sample.size:
        return None
    low, high = _percentiles(sample)
    threshold = lowest
    for _ in range(_ROUNDS):
        raised = lowest + NOISE * (high - lowest)
        if not threshold < raised < high:  # settled, or an overflow
            break
        threshold = raised
        low, high = _percentiles(sample[sample > threshold])
    # A foreground of one intensity (a binary volume) is told from its background.
    return (low, high) if high > low else (lowest, high)


def _percentiles(sample: NDArray[Any]) -> tuple[float, float]:
    low, high = np.percentile(sample, PERCENTILES)
    return float(low), float(high)


def _minimum(volume: NDArray[Any]) -> float:
    """The smallest finite voxel, slice by slice so that no mask of the whole volume is needed."""
    if volume.dtype.kind != "f":
        return float(volume.min())
    return float(min(np.min(plane, where=np.isfinite(plane), initial=np.inf) for plane in volume))


def _padding(volume: NDArray[Any]) -> float | None:
    """The value that fills all eight corners, if one does: what resampling and defacing leave around an image."""
    corners = {float(volume[at]) for at in itertools.product((0, -1), repeat=3)}
    return corners.pop() if len(corners) == 1 else None


def _sample(volume: NDArray[Any], lowest: float, padding: float | None) -> NDArray[Any]:
    """The voxels that may be foreground, or every n-th of them: their order and number do not depend on padding."""
    count = sum(len(values) for values in _candidates(volume, lowest, padding))
    step = max(1, -(-count // _MAX_SAMPLE))
    parts, skip = [], 0
    for values in _candidates(volume, lowest, padding):
        parts.append(values[skip::step])
        skip = (skip - len(values)) % step
    return np.concatenate(parts)


def _candidates(volume: NDArray[Any], lowest: float, padding: float | None) -> Iterator[NDArray[Any]]:
    for plane in volume:
        wanted = plane > lowest
        if plane.dtype.kind == "f":
            wanted &= np.isfinite(plane)
        if padding is not None:
            wanted &= plane != padding
        yield plane[wanted]


def _apply(plane: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    wide = plane.dtype.itemsize > 4 or (plane.dtype.kind in "iu" and plane.dtype.itemsize == 4)
    scaled: NDArray[Any] = plane.astype(np.float64 if wide else np.float32)
    with np.errstate(all="ignore"):
        scaled -= low
        scaled *= 255.0 / (high - low)
        scaled = np.nan_to_num(scaled, copy=False, nan=0.0, posinf=255.0, neginf=0.0)
    np.clip(scaled, 0, 255, out=scaled)
    rounded: NDArray[np.uint8] = np.rint(scaled).astype(np.uint8)
    return rounded
