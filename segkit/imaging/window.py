"""Intensities to 8 bits: MRI has no units, so each volume is windowed by its own foreground."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segkit.imaging.scan import Scan

PERCENTILES = (0.5, 99.5)  # of the foreground, become 0 and 255
_MAX_SAMPLE = 2**24  # voxels that the percentiles are taken from; larger volumes are strided within slices


def scan_to_uint8(scan: Scan) -> NDArray[np.uint8]:
    """The pixels of a scan as a net wants them: `[slices, height, width, channels]` uint8.

    A NIfTI of 8 bits is windowed as well: those are raw intensities, a picture file has display values.
    """
    return to_uint8(scan.pixels, keep_uint8=scan.kind != "nifti")


def to_uint8(pixels: NDArray[Any], *, keep_uint8: bool = True) -> NDArray[np.uint8]:
    """Window `[slices, height, width, channels]` to 8 bits, each channel of the volume by itself.

    The window runs linearly between two percentiles of the foreground: the finite voxels above the volume's
    minimum, so that padding and empty slices do not move it. NaN and constant channels become 0.
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
    background = _minimum(volume)
    step = 1
    while volume.size // step**2 > _MAX_SAMPLE:
        step += 1
    sample = volume[:, ::step, ::step]
    foreground = sample[sample > background]
    if volume.dtype.kind == "f":
        foreground = foreground[np.isfinite(foreground)]
    if not foreground.size:
        return None
    low, high = (float(value) for value in np.percentile(foreground, PERCENTILES))
    # A foreground of one intensity (a binary volume) is told from its background.
    return (low, high) if high > low else (background, high)


def _minimum(volume: NDArray[Any]) -> float:
    """The smallest finite voxel, slice by slice so that no mask of the whole volume is needed."""
    if volume.dtype.kind != "f":
        return float(volume.min())
    return float(min(np.min(plane, where=np.isfinite(plane), initial=np.inf) for plane in volume))


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
