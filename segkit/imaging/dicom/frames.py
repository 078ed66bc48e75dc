"""The images of a DICOM file: one, or one for each frame of an enhanced object, with their places in the patient."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segkit.imaging.dicom.files import Member
from segkit.imaging.dicom.reading import DamagedError, number, value

if TYPE_CHECKING:
    from pydicom import Dataset

# What the sorting, the choice and the pixels need; everything else stays in the file until it is wanted.
ATTRIBUTES = [
    "SpecificCharacterSet", "ImageType", "SOPClassUID", "SOPInstanceUID", "Modality", "Manufacturer",
    "SeriesDescription", "ProtocolName", "SequenceName", "PulseSequenceName", "ScanningSequence", "SequenceVariant",
    "MRAcquisitionType", "BodyPartExamined", "RepetitionTime", "EchoTime", "InversionTime", "EchoNumbers",
    "ContrastBolusAgent", "ContrastBolusAgentSequence", "ContrastBolusVolume", "ContrastBolusTotalDose",
    "SliceThickness", "SpacingBetweenSlices", "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber",
    "AcquisitionNumber", "InstanceNumber", "AcquisitionDate", "AcquisitionTime", "SeriesDate", "SeriesTime",
    "ContentDate", "ContentTime", "AcquisitionDateTime", "StudyDate",
    "TemporalPositionIdentifier", "TemporalPositionIndex", "DiffusionBValue", "ImagePositionPatient",
    "ImageOrientationPatient", "FrameOfReferenceUID", "SamplesPerPixel", "PhotometricInterpretation",
    "NumberOfFrames", "Rows", "Columns", "PixelSpacing", "BitsAllocated", "BitsStored", "PixelRepresentation",
    "PixelPaddingValue", "PixelPaddingRangeLimit", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence",
    "BurnedInAnnotation", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "PatientName",
    "PatientID", "OtherPatientIDs", "AccessionNumber", "PatientBirthDate",
]  # fmt: skip

_NO_SCANS = {"SEG", "SR", "PR", "KO", "RTSTRUCT", "RTDOSE", "RTPLAN", "REG", "FID", "RWV", "DOC", "ECG", "M3D"}
_IMAGES = tuple(f"1.2.840.10008.5.1.4.1.1.{kind}" for kind in ("2", "4", "4.1", "4.4"))  # CT and MR, which have pixels
_SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")


_Group = Callable[[str], Any]
_Place = tuple[NDArray[np.float64] | None, NDArray[np.float64] | None, tuple[float, float] | None]


@dataclass(frozen=True)
class Frame:
    """One image.

    Attributes:
        member, index: the file, and the number of the frame in it (0 for a file of one image).
        header: the file's attributes, shared by its frames.
        position: of the centre of the first pixel, in mm to left, posterior, superior; None where unknown.
        directions: `[2, 3]`, of rising column and rising row index.
        pixel: millimetres between rows and between columns.
        slope, intercept: from stored to real values.
        volume: what tells apart volumes that lie in one place: echo, time, b-value, kind of image.
    """

    member: Member
    index: int
    header: Dataset
    position: NDArray[np.float64] | None
    directions: NDArray[np.float64] | None
    pixel: tuple[float, float] | None
    slope: float
    intercept: float
    volume: tuple[str, ...]

    @property
    def instance(self) -> int:
        """Instance number; 0 where there is none."""
        return int(number(self.header, "InstanceNumber") or 0)

    @property
    def uid(self) -> str:
        """SOP instance UID."""
        return str(value(self.header, "SOPInstanceUID", ""))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(number(self.header, "Rows") or 0), int(number(self.header, "Columns") or 0)

    @property
    def is_placed(self) -> bool:
        """Whether its place in the patient is known."""
        return self.position is not None and self.directions is not None and self.pixel is not None


def is_scan(header: Dataset) -> bool:
    """Whether the file is an image that could be segmented, rather than a report, a mask or a curve."""
    kind = str(value(header, "SOPClassUID", ""))
    if str(value(header, "Modality", "")) in _NO_SCANS or kind in _SEGMENTATIONS:
        return False
    if "Rows" in header and "Columns" in header:
        return True
    if kind in _IMAGES:
        raise DamagedError("is damaged: it ends before its pixels")
    return False


def frames_of(member: Member, header: Dataset) -> list[Frame]:
    """Every image of a file.

    Raises:
        DamagedError: an image that cannot be used: a Siemens mosaic, colour, frames without places.
    """
    kinds = [str(kind).upper() for kind in _several(value(header, "ImageType", ()))]
    if "MOSAIC" in kinds:
        raise DamagedError(
            "is a Siemens mosaic (many slices tiled into one image); export it as enhanced MR or as single slices"
        )
    if (number(header, "SamplesPerPixel") or 1) > 1:
        raise DamagedError("is a colour picture, not a scan")
    if min(int(number(header, name) or 0) for name in ("Rows", "Columns")) < 1:
        raise DamagedError("has no rows or no columns")
    count = int(number(header, "NumberOfFrames") or 1)
    if "PerFrameFunctionalGroupsSequence" in header:
        return _enhanced(member, header, kinds)
    if count > 1:
        raise DamagedError(f"holds {count} frames without a place for each; only enhanced multi-frame images have one")
    volume = tuple(
        str(value(header, name, ""))
        for name in ("EchoTime", "EchoNumbers", "TemporalPositionIdentifier", "DiffusionBValue")
    )
    slope, intercept = _rescale(header)
    position, directions, pixel = _place(header, header, header)
    kind = (*volume, "/".join(kinds))
    return [Frame(member, 0, header, position, directions, pixel, slope, intercept, kind)]


def _enhanced(member: Member, header: Dataset, kinds: list[str]) -> list[Frame]:
    """The frames of an enhanced object, whose groups of attributes are the frame's own or shared by all."""
    shared = value(header, "SharedFunctionalGroupsSequence", ())
    common = shared[0] if len(shared) else {}
    return [
        _enhanced_frame(member, index, header, functools.partial(_group, (own, common)), kinds)
        for index, own in enumerate(header.PerFrameFunctionalGroupsSequence)
    ]


def _enhanced_frame(member: Member, index: int, header: Dataset, group: _Group, kinds: list[str]) -> Frame:
    content = group("FrameContentSequence")
    volume = (
        str(value(group("MREchoSequence"), "EffectiveEchoTime", "")),
        str(value(content, "TemporalPositionIndex", "")),
        str(value(group("MRDiffusionSequence"), "DiffusionBValue", "")),
        str(value(content, "StackID", "")),
        "/".join(map(str, _several(value(group("MRImageFrameTypeSequence"), "FrameType", kinds)))),
    )
    slope, intercept = _rescale(group("PixelValueTransformationSequence"))
    position, directions, pixel = _place(
        group("PlanePositionSequence"), group("PlaneOrientationSequence"), group("PixelMeasuresSequence")
    )
    return Frame(member, index, header, position, directions, pixel, slope, intercept, volume)


def _group(levels: Sequence[Any], name: str) -> Any:
    """The item of a functional group on the first level that has it."""
    for level in levels:
        items = value(level, name, ())
        if len(items):
            return items[0]
    return {}


def _place(position: Any, orientation: Any, measures: Any) -> _Place:
    """Position, directions and pixel size; None for each that is absent or impossible."""
    return (
        _vector(value(position, "ImagePositionPatient"), 3),
        _directions(value(orientation, "ImageOrientationPatient")),
        _pixel(value(measures, "PixelSpacing")),
    )


def _rescale(dataset: Any) -> tuple[float, float]:
    slope, intercept = number(dataset, "RescaleSlope"), number(dataset, "RescaleIntercept")
    slope = 1.0 if slope is None or not np.isfinite(slope) or slope == 0 else slope
    return slope, intercept if intercept is not None and np.isfinite(intercept) else 0.0


def _directions(values: Any) -> NDArray[np.float64] | None:
    """Two unit vectors at right angles, or None."""
    flat = _vector(values, 6)
    if flat is None:
        return None
    rows = flat.reshape(2, 3)
    lengths = np.linalg.norm(rows, axis=1)
    if (np.abs(lengths - 1) > 0.01).any() or abs(rows[0] @ rows[1]) > 0.01:
        return None
    unit: NDArray[np.float64] = rows / lengths[:, None]
    return unit


def _pixel(values: Any) -> tuple[float, float] | None:
    found = _vector(values, 2)
    if found is None or (found <= 0).any():
        return None
    rows, columns = (float(side) for side in found)
    return rows, columns


def _vector(values: Any, length: int) -> NDArray[np.float64] | None:
    try:
        found = np.array([float(item) for item in values], np.float64)
    except (TypeError, ValueError):
        return None
    return found if len(found) == length and np.isfinite(found).all() else None


def _several(values: Any) -> list[Any]:
    """A multi-valued attribute as a list, also where it has one value."""
    return [values] if isinstance(values, str) else list(values)
