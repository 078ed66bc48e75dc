"""Bringing a slice of any size to the size a net was trained on, and its answer back.

Training and segmenting use these same functions, so that a net sees the same pixels in both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segkit.errors import ConfigError
from segkit.model_metadata import STRIDE

MODES = ("scale", "pad")
SAME_PIXEL = 0.01  # pixel sizes that differ by less than this share are one size


@dataclass(frozen=True)
class Placement:
    """Where a slice lies in the net's canvas; each pair is height, width (or top, left) in pixels."""

    source: tuple[int, int]
    canvas: tuple[int, int]
    scaled: tuple[int, int]
    offset: tuple[int, int]

    @property
    def is_identity(self) -> bool:
        """Whether the slice is the canvas."""
        return self.source == self.canvas == self.scaled

    @property
    def is_scaled(self) -> bool:
        """Whether the slice's pixels are resampled, not only moved."""
        return self.source != self.scaled

    @property
    def window(self) -> tuple[slice, slice]:
        """The rows and columns of the canvas that the slice covers."""
        (top, left), (height, width) = self.offset, self.scaled
        return slice(top, top + height), slice(left, left + width)


def place(
    source: tuple[int, int],
    size: tuple[int, int],
    mode: str,
    *,
    pixel: tuple[float, float] | None = None,
    target: tuple[float, float] | None = None,
) -> Placement:
    """Place a slice of `source` pixels in a canvas of about `size`, centred.

    "scale" enlarges or shrinks the slice as far as it fits, its aspect kept. "pad" keeps its resolution; a
    side that is longer than the canvas's lengthens the canvas. `pixel` is the height and width of a pixel in
    millimetres: pixels that are not square are made square. With `target`, the pixel of the training slices,
    the slice gets that resolution and the rest is padding, whatever the mode.

    Raises:
        ConfigError: an unknown mode.
    """
    if mode not in MODES:
        raise ConfigError("fit", mode, " or ".join(MODES))
    canvas = (max(size[0], STRIDE), max(size[1], STRIDE))
    scaled = source
    factors = _factors(pixel, target)
    if target is not None and pixel is not None:
        mode = "pad"
    if mode == "pad":
        scaled = (max(1, round(source[0] * factors[0])), max(1, round(source[1] * factors[1])))
        canvas = (max(canvas[0], scaled[0]), max(canvas[1], scaled[1]))
    elif source != canvas or factors != (1.0, 1.0):
        square = (source[0] * factors[0], source[1] * factors[1])
        factor = min(canvas[0] / square[0], canvas[1] / square[1])
        scaled = (_length(square[0] * factor, canvas[0]), _length(square[1] * factor, canvas[1]))
    offset = ((canvas[0] - scaled[0]) // 2, (canvas[1] - scaled[1]) // 2)
    return Placement(source, canvas, scaled, offset)


def _factors(pixel: tuple[float, float] | None, target: tuple[float, float] | None) -> tuple[float, float]:
    """What rows and columns are stretched by: to the target's pixel, else to squares of the finer side."""
    if pixel is None:
        return 1.0, 1.0
    wanted = target or (min(pixel), min(pixel))
    rows, columns = (have / want for have, want in zip(pixel, wanted, strict=True))
    return _exact(rows), _exact(columns)


def _exact(factor: float) -> float:
    """1 where the factor is 1 but for a hundredth: a header's rounding is no reason to resample."""
    return 1.0 if abs(factor - 1) < SAME_PIXEL else factor


def fit_image(image: NDArray[np.uint8], placement: Placement) -> NDArray[np.uint8]:
    """Bring `[..., h, w, C]` uint8 to `[..., H, W, C]`: bilinear, antialiased when it shrinks, zeros around.

    The identity gives the input itself, not a copy.
    """
    return _fit(image, placement, Image.Resampling.BILINEAR)


def fit_mask(mask: NDArray[np.uint8], placement: Placement) -> NDArray[np.uint8]:
    """Bring `[..., h, w]` uint8 to `[..., H, W]`: nearest neighbour, so that no class is invented."""
    return _fit(mask[..., np.newaxis], placement, Image.Resampling.NEAREST)[..., 0]


def unfit_probability(probability: NDArray[np.float32], placement: Placement) -> NDArray[np.float32]:
    """Bring `[N, K, H, W]` float32 back to `[N, K, h, w]`, bilinear; the caller takes the argmax over K."""
    inner = probability[(..., *placement.window)]
    if not placement.is_scaled:
        return inner
    out = np.empty((*inner.shape[:-2], *placement.source), np.float32)
    flat = inner.reshape(-1, *inner.shape[-2:])
    for plane, target in zip(flat, out.reshape(-1, *placement.source), strict=True):
        target[...] = _resize(plane, placement.source, Image.Resampling.BILINEAR)
    return out


def unfit_mask(mask: NDArray[np.uint8], placement: Placement) -> NDArray[np.uint8]:
    """Cut `[..., H, W]` back to `[..., h, w]`. Scaled placements need `unfit_probability`."""
    if placement.is_scaled:
        raise ValueError("a scaled placement is undone on probabilities, not on class indices")
    return mask[(..., *placement.window)]


def _fit(image: NDArray[np.uint8], placement: Placement, method: Image.Resampling) -> NDArray[np.uint8]:
    if placement.is_identity:
        return image
    *outer, height, width, channels = image.shape
    if (height, width) != placement.source:
        raise ValueError(f"a slice of {height} x {width} does not belong to a placement of {placement.source}")
    out = np.zeros((*outer, *placement.canvas, channels), np.uint8)
    inner = out[(..., *placement.window, slice(None))]
    if not placement.is_scaled:
        inner[...] = image
        return out
    for index in np.ndindex(*outer, channels):
        at = (*index[:-1], slice(None), slice(None), index[-1])
        inner[at] = _resize(image[at], placement.scaled, method)
    return out


def _resize(plane: NDArray[Any], size: tuple[int, int], method: Image.Resampling) -> NDArray[Any]:
    resized = Image.fromarray(np.ascontiguousarray(plane)).resize((size[1], size[0]), method)
    return np.asarray(resized)


def _length(exact: float, limit: int) -> int:
    return min(limit, max(1, round(exact)))
