"""Connected components of a mask, and what is measured on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segkit.imaging.scan import Scan

_NEIGHBOURS: Literal[26] = 26  # voxels that touch at a face, an edge or a corner are one component


@dataclass(frozen=True)
class Components:
    """The connected components of a mask, each of one class.

    Attributes:
        labels: `[S, H, W]`, 0 is background.
        sizes: voxels of each label.
        classes: class of each label.
    """

    labels: NDArray[Any]
    sizes: NDArray[np.int64]
    classes: NDArray[np.uint8]


def components(mask: NDArray[np.uint8]) -> Components:
    """Label the connected components of each class of `[S, H, W]`."""
    import cc3d

    labels = cc3d.connected_components(np.ascontiguousarray(mask), connectivity=_NEIGHBOURS)
    sizes = cc3d.statistics(labels)["voxel_counts"].astype(np.int64)
    classes = np.zeros(len(sizes), np.uint8)
    for plane, values in zip(labels, mask, strict=True):  # by slice: an index array is 8 bytes a voxel
        classes[plane] = values
    return Components(labels, sizes, classes)


def largest_component(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Only the largest component of each class; of equal ones the first in memory order."""
    found = components(mask)
    keep = np.zeros(len(found.sizes), bool)
    for index in set(found.classes.tolist()) - {0}:
        of_class = np.flatnonzero(found.classes == index)
        keep[of_class[np.argmax(found.sizes[of_class])]] = True
    return _only(mask, found, keep)


def remove_small(mask: NDArray[np.uint8], minimum: int) -> NDArray[np.uint8]:
    """Without the components of fewer than `minimum` voxels."""
    found = components(mask)
    return _only(mask, found, found.sizes >= minimum)


def _only(mask: NDArray[np.uint8], found: Components, keep: NDArray[np.bool_]) -> NDArray[np.uint8]:
    out = np.zeros_like(mask)
    for plane, values, target in zip(found.labels, mask, out, strict=True):
        np.copyto(target, values, where=keep[plane])
    return out


def measure(mask: NDArray[np.uint8], scan: Scan, classes: Sequence[str]) -> dict[str, Any]:
    """Areas, volumes and component counts of each class but the background, ready for JSON.

    Areas are per slice, in pixels and mm2; volumes are voxel counts times the voxel's volume, in ml. Without
    a spacing mm2 and ml are null. Slices without the class are left out.
    """
    found = components(mask)
    pixel = scan.spacing[1] * scan.spacing[2] if scan.spacing else None
    voxel = pixel * scan.spacing[0] / 1000 if scan.spacing and pixel is not None else None
    result: dict[str, Any] = {}
    for index, name in enumerate(classes):
        if index == 0:
            continue
        areas = np.count_nonzero(mask == index, axis=(1, 2))
        own = found.sizes[found.classes == index]
        total = int(areas.sum())
        result[name] = {
            "pixels": total,
            "ml": None if voxel is None else round(total * voxel, 4),
            "components": len(own),
            "largest_component_pixels": int(own.max(initial=0)),
            "slices": [
                {
                    "slice": int(at),
                    "pixels": int(areas[at]),
                    "mm2": None if pixel is None else round(int(areas[at]) * pixel, 2),
                }
                for at in np.flatnonzero(areas)
            ],
        }
    return result
