"""Connected components of a mask, and what is measured on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segkit.errors import ConfigError
from segkit.imaging.scan import Scan
from segkit.inference.diameter import longest_diameter

LISTED = 100  # lesions of a class that are measured one by one
_NEIGHBOURS: Literal[26] = 26  # voxels that touch at a face, an edge or a corner are one component


@dataclass(frozen=True)
class Components:
    """The connected components of a mask, each of one class.

    Attributes:
        labels: `[S, H, W]`, 0 is background.
        sizes: voxels of each label.
        classes: class of each label.
        boxes: `[labels, 6]`, the first and last slice, row and column of each label.
    """

    labels: NDArray[Any]
    sizes: NDArray[np.int64]
    classes: NDArray[np.uint8]
    boxes: NDArray[Any]


def components(mask: NDArray[np.uint8]) -> Components:
    """Label the connected components of each class of `[S, H, W]`."""
    import cc3d

    labels = cc3d.connected_components(np.ascontiguousarray(mask), connectivity=_NEIGHBOURS)
    statistics = cc3d.statistics(labels, no_slice_conversion=True)  # objects for millions of specks take gigabytes
    sizes = statistics["voxel_counts"].astype(np.int64)
    classes = np.zeros(len(sizes), np.uint8)
    for plane, values in zip(labels, mask, strict=True):  # by slice: an index array is 8 bytes a voxel
        classes[plane] = values
    return Components(labels, sizes, classes, statistics["bounding_boxes"])


def largest_component(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Only the largest component of each class; of equal ones the first in memory order."""
    found = components(mask)
    keep = np.zeros(len(found.sizes), bool)
    for index in set(found.classes.tolist()) - {0}:
        of_class = np.flatnonzero(found.classes == index)
        keep[of_class[np.argmax(found.sizes[of_class])]] = True
    return _only(mask, found, keep)


@dataclass(frozen=True)
class LesionSize:
    """The least size of a lesion: in voxels, in millilitres ("ml"), or in percent of the largest of its class ("%")."""

    amount: float = 0.0
    unit: Literal["", "ml", "%"] = ""

    @classmethod
    def parse(cls, text: str) -> LesionSize:
        """Read "0.1ml", "10%" or, for voxels, "30". Raises ConfigError for anything else."""
        plain = text.strip().lower().replace(" ", "")
        unit: Literal["", "ml", "%"] = "ml" if plain.endswith("ml") else "%" if plain.endswith("%") else ""
        try:
            amount = float(plain.removesuffix(unit))
        except ValueError:
            amount = -1.0
        if not 0 <= amount <= (100 if unit == "%" else 1e9):
            what = 'a volume such as "0.1ml", a share of the largest such as "10%", or a number of voxels'
            raise ConfigError("min_lesion", text, what)
        return cls(amount, unit)

    def __str__(self) -> str:
        return f"{self.amount:g}{self.unit}"

    def __bool__(self) -> bool:
        return self.amount > 0

    @property
    def in_words(self) -> str:
        """For a sentence: "30 voxels", "0.1 ml", "10 % of the largest"."""
        return f"{self.amount:g} " + {"": "voxels", "ml": "ml", "%": "% of the largest"}[self.unit]

    def apply(self, mask: NDArray[np.uint8], scan: Scan, found: Components | None = None) -> NDArray[np.uint8]:
        """The mask `[S, H, W]` of a scan without what is smaller; `found` are its components, where they are known.

        Raises ConfigError where millilitres are to be counted in a scan without a spacing.
        """
        if not self:
            return mask
        found = found or components(mask)
        return _only(mask, found, found.sizes >= self._least(found, scan))

    def _least(self, found: Components, scan: Scan) -> int | NDArray[np.floating[Any]]:
        """In voxels: for all components alike, or for each."""
        if self.unit == "%":
            largest = np.zeros(int(found.classes.max(initial=0)) + 1, np.int64)
            np.maximum.at(largest, found.classes, found.sizes)
            return largest[found.classes] * (self.amount / 100) - 1e-6
        if self.unit != "ml":
            return math.ceil(self.amount)
        if scan.voxel_mm3 is None:
            raise ConfigError("min_lesion", str(self), f"a number of voxels: {scan.source} has no spacing")
        return math.ceil(self.amount * 1000 / scan.voxel_mm3 - 1e-6)


def _only(mask: NDArray[np.uint8], found: Components, keep: NDArray[np.bool_]) -> NDArray[np.uint8]:
    out = np.zeros_like(mask)
    for plane, values, target in zip(found.labels, mask, out, strict=True):
        np.copyto(target, values, where=keep[plane])
    return out


def measure(mask: NDArray[np.uint8], scan: Scan, classes: Sequence[str]) -> dict[str, Any]:
    """Areas, volumes, components and lesions of each class but the background, ready for JSON.

    Areas are per slice, in pixels and mm2; volumes are voxel counts times the voxel's volume, in ml. Without
    a spacing everything in millimetres is null. Slices without the class are left out. Lesions are the
    components, the largest first, at most LISTED of them.
    """
    found = components(mask)
    pixel = scan.spacing[1] * scan.spacing[2] if scan.spacing else None
    result: dict[str, Any] = {}
    for index, name in enumerate(classes):
        if index == 0:
            continue
        areas = np.count_nonzero(mask == index, axis=(1, 2))
        own = np.flatnonzero(found.classes == index)
        own = own[np.argsort(-found.sizes[own], kind="stable")]
        lesions = [_lesion(found, int(label), scan) for label in own[:LISTED]]
        diameters = [lesion["longest_diameter_mm"] for lesion in lesions]
        result[name] = {
            "pixels": int(areas.sum()),
            "ml": _millilitres(int(areas.sum()), scan),
            "components": len(own),
            "largest_component_pixels": int(found.sizes[own].max(initial=0)),
            "longest_diameter_mm": max(diameters, default=None) if scan.spacing else None,
            "lesions": lesions,
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


def _millilitres(voxels: int, scan: Scan) -> float | None:
    return None if scan.voxel_mm3 is None else round(voxels * scan.voxel_mm3 / 1000, 4)


def _lesion(found: Components, label: int, scan: Scan) -> dict[str, Any]:
    """One component: its size, its diameters in space and within a slice, and where it lies."""
    first, last = found.boxes[label][::2].astype(int), found.boxes[label][1::2].astype(int)
    voxels = found.labels[tuple(slice(low, high + 1) for low, high in zip(first, last, strict=True))] == label
    centre = np.argwhere(voxels).mean(axis=0) + first
    affine = scan.display_affine
    lesion: dict[str, Any] = {
        "pixels": int(found.sizes[label]),
        "ml": _millilitres(int(found.sizes[label]), scan),
        "longest_diameter_mm": None,
        "longest_diameter_in_slice_mm": None,
        "slices": [int(first[0]), int(last[0])],
        "centre": [round(float(at), 2) for at in centre],
        "centre_mm": None if affine is None else [round(float(at), 2) for at in affine[:3] @ [*centre, 1.0]],
    }
    if scan.spacing is not None:
        axes = np.diag(scan.spacing) if affine is None else affine[:3, :3].T
        within = [longest_diameter(plane, axes[1:]) for plane in voxels if plane.any()]
        lesion["longest_diameter_mm"] = round(longest_diameter(voxels, axes), 2)
        lesion["longest_diameter_in_slice_mm"] = round(max(within), 2)
    return lesion
