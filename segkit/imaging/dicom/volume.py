"""The chosen series of a study as one scan, on the grid of the reference series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segkit.errors import FileError, SegkitError
from segkit.imaging.dicom.choose import Choice, choose, reference_role
from segkit.imaging.dicom.files import find_members
from segkit.imaging.dicom.frames import Frame
from segkit.imaging.dicom.pixels import read_voxels
from segkit.imaging.dicom.reading import require_packages
from segkit.imaging.dicom.stacks import Stack, Study, find_studies
from segkit.imaging.grid import display_axes, display_spacing
from segkit.imaging.read import as_channels
from segkit.imaging.scan import MAX_BYTES, NiftiGeometry, Scan

_LARGEST_NUMBER = 2**31 - 2  # of an integer string, less one for the report's series
_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # DICOM's axes run to left, posterior, superior


@dataclass(frozen=True)
class DicomGeometry:
    """Which images the slices of a scan are, so that a mask can refer to them.

    Attributes:
        study_uid: of the study.
        stacks: role and series of each channel; a series that stands in for others once.
        reference: the role whose series the mask lies on.
        free_number: a series number that the study has not used.
    """

    study_uid: str
    stacks: tuple[tuple[str, Stack], ...]
    reference: str
    free_number: int = 1

    @property
    def slices(self) -> tuple[Frame | None, ...]:
        """The image of each slice of the grid that the mask lies on; None where one is missing."""
        return dict(self.stacks)[self.reference].frames

    @property
    def series(self) -> list[tuple[str, str, int | None]]:
        """Role, series UID and series number of each channel."""
        return [(role, stack.series_uid, stack.series_number) for role, stack in self.stacks]

    @property
    def series_number(self) -> int | None:
        """Number of the series that the mask lies on."""
        return dict(self.stacks)[self.reference].series_number


def read_dicom(path: Path) -> Scan:
    """The FLAIR of the study in a file, a folder or an archive, or its only series, as a scan of one channel.

    Raises:
        FileError: no images, several studies, or no series that could be meant.
    """
    try:
        studies, notes = open_studies([path])
        if len(studies) > 1:
            raise SegkitError(f"holds {len(studies)} studies; give one of them")
        scan, _ = read_study(studies[0], {}, ("flair",))
    except FileError:
        raise
    except SegkitError as error:
        raise FileError(path, str(error)) from error
    return replace(scan, source=path, notes=(*notes, *scan.notes))


def open_studies(paths: Sequence[Path]) -> tuple[list[Study], list[str]]:
    """The studies in files, folders and archives, by their headers, and what is to say about other files.

    Raises:
        FileError: a path that cannot be read, or no image in any.
        SegkitError: the packages of the extra `dicom` are missing.
    """
    require_packages()
    studies, notes = find_studies(find_members(paths))
    if not studies:
        where = paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
        raise FileError(where, "holds no DICOM image that can be used" + (f" ({notes[0]})" if notes else ""))
    return studies, notes


def read_study(study: Study, picks: Mapping[str, str], wanted: Sequence[str]) -> tuple[Scan, Choice]:
    """The series of the wanted roles as the channels of one scan, on the grid of FLAIR (or of the first role).

    Raises:
        SegkitError: the series cannot be chosen, read, or brought to one grid.
    """
    choice = choose(study, picks, wanted)
    reference = reference_role(wanted)
    used = [role if role in choice.roles else reference for role in wanted]
    scans = {role: read_stack(choice.roles[role], len(set(used))) for role in dict.fromkeys(used)}
    scan = as_channels([scans[role] for role in used], wanted.index(reference)) if len(used) > 1 else scans[reference]
    stacks = tuple((role, choice.roles[role]) for role in dict.fromkeys(used))
    free = 1 + max(stack.series_number or 0 for stack in study.stacks)
    geometry = DicomGeometry(study.uid, stacks, reference, min(free, _LARGEST_NUMBER))
    notes = (*choice.notes, *scan.notes)
    return replace(scan, channels=tuple(wanted), dicom=geometry, notes=notes), choice


def read_stack(stack: Stack, beside: int = 1) -> Scan:
    """One series as a scan; `beside` is how many such scans are held together.

    Raises:
        FileError: it is too large, has no place in the patient, or a slice cannot be unpacked.
    """
    source = Path(stack.name)  # messages name the series, not files, whose names may be a patient's
    if stack.fault or stack.step is None:
        raise FileError(source, stack.fault or "has no place in the patient")
    rows, columns = stack.first.shape
    if rows * columns * len(stack.frames) * 4 * beside > MAX_BYTES:
        raise FileError(source, f"has {columns} x {rows} x {len(stack.frames)} voxels, more than is read at once")
    affine = ras_affine(stack)
    stored = read_voxels(stack).transpose(2, 1, 0)  # [column, row, slice], as a NIfTI has them
    order, flips = display_axes(affine)
    geometry = NiftiGeometry(_nifti_header(affine, stored.shape), stored.shape, order, flips)
    notes = tuple(f"{stack.name}: {note}" for note in stack.notes)
    pixels = geometry.to_display(stored)[..., np.newaxis]
    spacing = display_spacing(affine, order)
    return Scan(pixels, spacing, affine, (stack.name,), source, "dicom", geometry, notes=notes)


def ras_affine(stack: Stack) -> NDArray[np.float64]:
    """4x4, from column, row and slice index to millimetres to right, anterior, superior."""
    first = stack.first
    if stack.step is None or first.position is None or first.directions is None or first.pixel is None:
        raise ValueError("a stack without places has no affine")
    affine = np.eye(4)
    affine[:3, 0] = first.directions[0] * first.pixel[1]  # the spacing of rows comes first in the attribute
    affine[:3, 1] = first.directions[1] * first.pixel[0]
    affine[:3, 2] = stack.step
    affine[:3, 3] = first.position
    result: NDArray[np.float64] = _TO_RAS @ affine
    return result


def _nifti_header(affine: NDArray[np.float64], shape: tuple[int, ...]) -> bytes:
    """A NIfTI-1 header that puts an array of this shape in its place: sform and qform, in scanner coordinates."""
    from nibabel.nifti1 import Nifti1Header

    header = Nifti1Header()  # type: ignore[no-untyped-call]
    header.set_data_shape(shape)  # type: ignore[no-untyped-call]
    header.set_xyzt_units("mm")  # type: ignore[no-untyped-call]
    header.set_sform(affine, code=1)  # type: ignore[no-untyped-call]
    header.set_qform(affine, code=1, strip_shears=True)  # type: ignore[no-untyped-call]
    header["magic"] = header.single_magic
    return bytes(header.binaryblock)
