"""One scan on the grid of another, by their places in the patient."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segkit.errors import FileError, SegkitError
from segkit.imaging.scan import Scan

_LEAST_SHARE = 0.05  # of the grid; less is another part of the body, or another patient
_EDGE = 0.5  # voxels beyond the outer centres that the outer voxels still cover


def resample(scan: Scan, onto: Scan) -> tuple[NDArray[Any], float]:
    """The pixels `[S, H, W, C]` of `scan`, trilinear, on the grid of `onto`; and the share that it covers.

    What it does not cover gets its smallest value. The result is float32; NaN becomes that value as well.

    Raises:
        FileError: it covers next to nothing.
        ValueError: either has no place in space.
        SegkitError: SciPy is missing.
    """
    try:
        from scipy import ndimage
    except ModuleNotFoundError as error:
        raise SegkitError(f"{scan.source}: resampling needs SciPy; pip install 'segkit[dicom]'") from error
    step = _step(scan, onto)
    coverage = _coverage(step, scan.shape, onto.shape)
    if coverage < _LEAST_SHARE:
        raise FileError(scan.source, f"lies elsewhere than {onto.source.name}", "choose scans of one examination")
    out = np.empty((*onto.shape, scan.pixels.shape[-1]), np.float32)
    for channel in range(out.shape[-1]):
        source = scan.pixels[..., channel].astype(np.float32)
        finite = np.isfinite(source)
        lowest = float(np.min(source, where=finite, initial=np.inf)) if finite.any() else 0.0
        source[~finite] = lowest
        padded = np.pad(source, 1, mode="edge")  # the outer half voxel is measured, not outside
        for index in range(len(out)):
            origin = step[:3, 0] * index + step[:3, 3] + 1
            matrix = step[:3, 1:3]
            out[index, ..., channel] = _slice(ndimage, padded, matrix, origin, out.shape[1:3], lowest)
    return out, coverage


def _slice(
    ndimage: Any,
    padded: NDArray[np.float32],
    matrix: NDArray[np.float64],
    origin: NDArray[np.float64],
    shape: tuple[int, ...],
    outside: float,
) -> NDArray[np.float32]:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    at = origin[:, None, None] + matrix[:, 0, None, None] * rows + matrix[:, 1, None, None] * columns
    plane: NDArray[np.float32] = ndimage.map_coordinates(padded, at, order=1, mode="nearest")
    limits = np.array(padded.shape)[:, None, None]
    plane[((at < 1 - _EDGE) | (at > limits - 2 + _EDGE)).any(axis=0)] = outside
    return plane


def _step(scan: Scan, onto: Scan) -> NDArray[np.float64]:
    """4x4: from display indices of `onto` to those of `scan`."""
    have, want = scan.display_affine, onto.display_affine
    if have is None or want is None:
        raise ValueError("resampling needs two scans with a place in space")
    return np.asarray(np.linalg.solve(have, want), np.float64)


def _coverage(step: NDArray[np.float64], have: tuple[int, ...], want: tuple[int, ...]) -> float:
    """Share of the wanted grid, on a coarse net of its points, that lies inside the one at hand."""
    axes = [np.linspace(0, length - 1, min(length, 32)) for length in want]
    points = np.array(np.meshgrid(*axes, indexing="ij")).reshape(3, -1)
    at = step[:3, :3] @ points + step[:3, 3:]
    inside = (at >= -_EDGE) & (at <= np.array(have)[:, None] - 1 + _EDGE)
    return float(inside.all(axis=0).mean())
