"""Distance between the surfaces of two masks, in millimetres."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]


def hd95(prediction: Bools, reference: Bools, spacing: tuple[float, float, float]) -> float | None:
    """95th percentile of the symmetric surface distance ("HD95"), in millimetres.

    Each surface voxel of one mask is given its distance to the nearest surface voxel of the other; the
    distances of both directions are pooled, and the 95th percentile (linear interpolation) of that pool is
    the figure. This is medpy's `hd95`; MONAI's is the greater of the two directions' percentiles, so as a
    rule a larger number. A surface voxel is a mask voxel with a face on the outside of the mask or of the
    volume; an axis of length 1 has no such faces, so that a single slice is measured by its outline.
    Source: Huttenlocher, Klanderman, Rucklidge, IEEE TPAMI 15 (1993), for the ranked Hausdorff distance.

    Args:
        prediction: bool `[S, H, W]`.
        reference: bool `[S, H, W]`.
        spacing: millimetres between slices, rows, columns.

    Returns:
        The distance, or None where either mask is empty (there is no surface to measure to).

    Raises:
        ValueError: the shapes differ or are not 3-D, or a spacing is not a positive number.
    """
    predicted, expected = np.asarray(prediction, dtype=np.bool_), np.asarray(reference, dtype=np.bool_)
    if predicted.shape != expected.shape or predicted.ndim != 3:
        raise ValueError(f"prediction {predicted.shape} and reference {expected.shape}: expected one shape [S, H, W]")
    if len(spacing) != 3 or not all(0 < step < np.inf for step in spacing):
        raise ValueError(f"spacing {spacing}: three positive numbers of millimetres are needed")
    if not predicted.any() or not expected.any():
        return None
    from scipy.spatial import cKDTree

    millimetres = np.asarray(spacing, dtype=np.float64)
    ours, theirs = _surface(predicted) * millimetres, _surface(expected) * millimetres
    there, _ = cKDTree(theirs).query(ours)
    back, _ = cKDTree(ours).query(theirs)
    return float(np.percentile(np.concatenate([there, back]), 95))


def class_hd95(
    prediction: NDArray[Any], reference: NDArray[Any], classes: int, spacing: tuple[float, float, float]
) -> tuple[float | None, ...]:
    """`hd95` of each foreground class (1 to K - 1) of two masks of class indices `[S, H, W]`."""
    return tuple(hd95(prediction == index, reference == index, spacing) for index in range(1, classes))


def _surface(mask: Bools) -> NDArray[np.int64]:
    """Positions `[points, 3]` of the voxels that have a face on the outside."""
    inside = mask.copy()
    for axis, length in enumerate(mask.shape):
        if length == 1:
            continue
        along, core = np.moveaxis(mask, axis, 0), np.moveaxis(inside, axis, 0)
        core[1:] &= along[:-1]
        core[:-1] &= along[1:]
        core[[0, -1]] = False
    return np.argwhere(mask & ~inside)
