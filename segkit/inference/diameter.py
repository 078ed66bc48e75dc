"""The longest distance within a lesion."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1024  # points whose distances to all others are held at once


def longest_diameter(voxels: NDArray[np.bool_], axes: NDArray[np.float64]) -> float:
    """The longest distance between two points of the surface of `[a, b, ...]`, in the unit of `axes`.

    Row i of `axes` is the step of one index along axis i, as a vector. The surface runs midway between a voxel
    inside and one outside, as a marching-cubes mesh of the mask does: the diameter of one voxel is its longest
    side, and a sphere's is right to about a voxel.
    """
    points = _surface(voxels) @ axes
    return _largest_distance(_candidates(points))


def _surface(voxels: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The two ends of every line of voxels along each axis, in index coordinates."""
    ends = []
    for axis in range(voxels.ndim):
        occupied = voxels.any(axis=axis)
        others = np.argwhere(occupied).astype(np.float64)
        first = voxels.argmax(axis=axis)[occupied] - 0.5
        last = voxels.shape[axis] - 1 - np.flip(voxels, axis).argmax(axis=axis)[occupied] + 0.5
        ends += [np.insert(others, axis, first, axis=1), np.insert(others, axis, last, axis=1)]
    return np.concatenate(ends)


def _candidates(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The points that can be an end of the longest distance.

    Two points further apart than L cannot both lie within L - R of a centre from which none is further than R.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    from_centre = np.linalg.norm(points - (low + high) / 2, axis=1)
    far = points[from_centre.argmax()]
    for _ in range(3):  # from one point to the furthest and on: a distance that exists
        distances = np.linalg.norm(points - far, axis=1)
        found = float(distances.max())
        far = points[distances.argmax()]
    kept: NDArray[np.float64] = points[from_centre >= found - from_centre.max() - 1e-9]
    return kept


def _largest_distance(points: NDArray[np.float64]) -> float:
    squares = (points**2).sum(axis=1)
    largest = 0.0
    for start in range(0, len(points), _BLOCK):
        block = slice(start, start + _BLOCK)
        distances = squares[block, None] + squares - 2 * points[block] @ points.T
        largest = max(largest, float(distances.max()))
    return float(np.sqrt(max(0.0, largest)))
