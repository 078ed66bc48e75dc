"""The three slicing planes of a volume. Readers give axial slices; the others are views of the same voxels."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from segkit.errors import ConfigError

PLANES = ("axial", "coronal", "sagittal")
CHOICES = ("auto", *PLANES)

# Spacings that differ by less than this factor leave the plane to habit, which is axial.
NEARLY_EQUAL = 1.2

# Axes of an axial array are 0 slice (to superior), 1 row (to posterior), 2 column (to left). For each plane:
# which of them are its slices, rows and columns. Rows of coronal and sagittal slices run to inferior.
_AXES = {"axial": (0, 1, 2), "coronal": (1, 0, 2), "sagittal": (2, 0, 1)}

T = TypeVar("T", bound=np.generic)


def choose_plane(spacing: tuple[float, float, float] | None, wanted: str = "auto", trained: str = "") -> str:
    """The plane to slice in.

    "auto" is the plane that the net was trained in, where the model says so, else the one with the best
    in-plane resolution: that across the axis with the coarsest spacing (of axial slices, rows, columns).

    Raises:
        ConfigError: an unknown plane.
    """
    if wanted not in CHOICES:
        raise ConfigError("plane", wanted, ", ".join(CHOICES))
    if wanted != "auto":
        return wanted
    if trained in PLANES:
        return trained
    if spacing is None or max(spacing) < NEARLY_EQUAL * spacing[0]:
        return "axial"
    return {0: "axial", 1: "coronal", 2: "sagittal"}[int(np.argmax(spacing))]


def to_plane(axial: NDArray[T], plane: str) -> NDArray[T]:
    """A view of `[S, H, W, ...]` with the slices, rows and columns of `plane`."""
    if plane == "axial":
        return axial
    view = axial.transpose(*_AXES[plane], *range(3, axial.ndim))
    return view[:, ::-1]


def from_plane(resliced: NDArray[T], plane: str) -> NDArray[T]:
    """The inverse of `to_plane`."""
    if plane == "axial":
        return resliced
    inverse = [int(axis) for axis in np.argsort(_AXES[plane])]
    return resliced[:, ::-1].transpose(*inverse, *range(3, resliced.ndim))


def spacing_in(spacing: tuple[float, float, float], plane: str) -> tuple[float, float, float]:
    """The spacing of axial slices, rows and columns as that of `plane`."""
    first, second, third = _AXES[plane]
    return spacing[first], spacing[second], spacing[third]
