"""How voxel axes lie in the patient. Affines lead from voxel indices to millimetres to right, anterior, superior."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Axes = tuple[int, int, int]
Flips = tuple[slice, slice, slice]

SAME_PLACE = 0.01  # mm: scanners and converters round an affine at about the fifth digit


def display_axes(affine: NDArray[np.float64] | None) -> tuple[Axes, Flips]:
    """Which axis of the file is slice, row and column of the display, and which of them run backwards.

    Slices of the display run to superior, rows to posterior, columns to left.
    """
    from nibabel.orientations import io_orientation

    axes = np.eye(4) if affine is None else affine
    # For each axis of the file: towards 0 right, 1 anterior or 2 superior; sign.
    towards = io_orientation(axes)  # type: ignore[no-untyped-call]
    order, flips = [], []
    for target, sign in ((2, 1), (1, -1), (0, -1)):  # superior, posterior, left
        axis = int(np.flatnonzero(towards[:, 0] == target)[0])
        order.append(axis)
        flips.append(slice(None, None, 1 if towards[axis, 1] == sign else -1))
    return (order[0], order[1], order[2]), (flips[0], flips[1], flips[2])


def display_spacing(affine: NDArray[np.float64], order: Axes, unit_mm: float = 1.0) -> tuple[float, float, float]:
    """Millimetres between the slices, rows and columns of the display."""
    sizes = np.sqrt((affine[:3, :3] ** 2).sum(axis=0)) * unit_mm
    return float(sizes[order[0]]), float(sizes[order[1]]), float(sizes[order[2]])


def display_affine(
    affine: NDArray[np.float64], shape: tuple[int, ...], order: Axes, flips: Flips
) -> NDArray[np.float64]:
    """The affine of display indices [slice, row, column], for a file's array of `shape` with `affine`."""
    result = np.eye(4)
    result[:3, 3] = affine[:3, 3]
    for position, (axis, flip) in enumerate(zip(order, flips, strict=True)):
        column = affine[:3, axis]
        if flip.step == -1:
            result[:3, 3] += column * (shape[axis] - 1)
            column = -column
        result[:3, position] = column
    return result


def largest_shift(one: NDArray[np.float64], other: NDArray[np.float64], shape: tuple[int, ...]) -> float:
    """How far apart two affines of one array put the same voxel, at most: at a corner, in the affine's unit."""
    ends = np.array(np.meshgrid(*[(0, length - 1) for length in shape[:3]], indexing="ij")).reshape(3, -1)
    corners = np.vstack([ends, np.ones(ends.shape[1])])
    return float(np.linalg.norm(((one - other) @ corners)[:3], axis=0).max())
