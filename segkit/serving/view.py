"""A scan as the page shows it: at most 16 bits, with the line that leads back to the file's intensities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segkit.imaging.scan import Scan

_TOP = 65535


@dataclass(frozen=True)
class View:
    """Pixels to look at.

    Attributes:
        pixels: `[slices, height, width, channels]`, uint8 or little-endian uint16.
        slope, intercept: the file's intensity is `pixel * slope + intercept`.
    """

    pixels: NDArray[Any]
    channels: tuple[str, ...]
    slope: float
    intercept: float


def view_of(scan: Scan) -> View:
    """8 bits as they are; everything else from its least to its greatest finite value. Alpha is left out."""
    count = scan.measured
    pixels, channels = scan.pixels[..., :count], scan.channels[:count]
    if pixels.dtype == np.uint8:
        return View(pixels, channels, 1.0, 0.0)
    low, high = _range(pixels)
    slope = (high - low) / _TOP or 1.0
    out = np.zeros(pixels.shape, "<u2")
    for plane, target in zip(pixels, out, strict=True):
        with np.errstate(all="ignore"):
            scaled = (plane.astype(np.float64) - low) / slope
            target[...] = np.clip(np.nan_to_num(scaled, nan=0.0, posinf=_TOP, neginf=0.0), 0, _TOP).round()
    return View(out, channels, slope, low)


def _range(pixels: NDArray[Any]) -> tuple[float, float]:
    if pixels.dtype.kind != "f":
        return float(pixels.min()), float(pixels.max())
    low, high = np.inf, -np.inf
    for plane in pixels:
        finite = np.isfinite(plane)
        low = min(low, float(np.min(plane, where=finite, initial=np.inf)))
        high = max(high, float(np.max(plane, where=finite, initial=-np.inf)))
    return (low, high) if low <= high else (0.0, 1.0)
