"""What every reader gives: the pixels of a scan and all that a writer needs to put a mask in their place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segkit.imaging.grid import display_affine

if TYPE_CHECKING:
    from segkit.imaging.dicom.volume import DicomGeometry

# A file is refused before anything is allocated when it claims more than this. The whole of
# `segment` (pixels, their 8-bit copy, the net, the mask) then stays below 2 GB.
MAX_BYTES = 2**30  # of one scan, counted with at least 4 bytes a voxel
MAX_SLICE_PIXELS = 2**26  # of one slice: 8192 x 8192


@dataclass(frozen=True)
class NiftiGeometry:
    """How the voxels lie in the NIfTI file, so that a mask can be written in the same order.

    `order` and `flips` lead from the file's axes to the display's: the display's array is
    `file.transpose(order)[flips]`, whose axes are slice (to superior), row (to posterior) and
    column (to left).
    """

    header: bytes  # the file's own header, 348 or 540 bytes
    shape: tuple[int, ...]  # of the file's array, up to seven axes
    order: tuple[int, int, int]
    flips: tuple[slice, slice, slice]

    def to_display(self, stored: NDArray[Any]) -> NDArray[Any]:
        """A view of the file's array [i, j, k] as [slice, row, column]."""
        return stored.transpose(self.order)[self.flips]

    def to_file(self, displayed: NDArray[Any]) -> NDArray[Any]:
        """The inverse: a view of [slice, row, column] with the axes and the shape of the file."""
        inverse = np.argsort(self.order)
        return displayed[self.flips].transpose(inverse)

    def display_affine(self, affine: NDArray[np.float64]) -> NDArray[np.float64]:
        """The affine of [slice, row, column], for the affine of the file's axes."""
        return display_affine(affine, (*self.shape, 1, 1)[:3], self.order, self.flips)


@dataclass(frozen=True)
class Scan:
    """One scan as it lies in its file.

    Attributes:
        pixels: `[slices, height, width, channels]` in the file's own type.
        spacing: millimetres between slices, rows and columns; None where the file does not say.
        affine: 4x4, from voxel indices of the file's own array to millimetres; None for TIFF and PNG.
        channels: a name for each channel; "alpha" is no measurement and is left out by the segmenter.
        source: the file or the folder it was read from.
        kind: "tiff", "png", "nifti", "dicom" or "folder".
        nifti: how the voxels lie in a NIfTI file; that of a DICOM series, if it were stored as NIfTI.
        dicom: which images of a DICOM series the slices are.
        notes: what the reader decided and the user should know, one line each.
    """

    pixels: NDArray[Any]
    spacing: tuple[float, float, float] | None
    affine: NDArray[np.float64] | None
    channels: tuple[str, ...]
    source: Path
    kind: str
    nifti: NiftiGeometry | None = None
    dicom: DicomGeometry | None = None
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, height, width: the shape of a mask of this scan."""
        slices, height, width, _ = self.pixels.shape
        return slices, height, width

    @property
    def measured(self) -> int:
        """The number of channels without alpha, which comes last."""
        return len(self.channels) - (self.channels[-1] == "alpha")

    def clear_missing(self, mask: NDArray[np.uint8]) -> None:
        """Set `[slices, height, width]` to background, in place, where a DICOM series lacks the image."""
        if self.dicom is None or self.nifti is None:
            return
        stored = self.nifti.to_file(mask)
        for place, frame in enumerate(self.dicom.slices):
            if frame is None:
                stored[..., place] = 0

    @property
    def display_affine(self) -> NDArray[np.float64] | None:
        """4x4, from [slice, row, column] to millimetres to right, anterior, superior; None where unknown."""
        if self.affine is None or self.nifti is None or self.spacing is None:
            return None
        shown = self.nifti.display_affine(self.affine)
        unit = self.spacing[0] / float(np.linalg.norm(shown[:3, 0]))  # an affine may be in metres
        return np.diag([unit, unit, unit, 1.0]) @ shown

    @property
    def voxel_mm3(self) -> float | None:
        """Volume of a voxel; None without a spacing. Axes of an affine that are not at right angles enclose less."""
        if self.spacing is None:
            return None
        box = float(np.prod(self.spacing))
        if self.affine is None:
            return box
        axes = self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)
        return box * abs(float(np.linalg.det(axes)))
