"""A mask as a DICOM segmentation that refers to the images it was made on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segkit.errors import FileError
from segkit.files import atomic_path
from segkit.imaging.dicom.author import Author
from segkit.imaging.dicom.coding import coding_of
from segkit.imaging.dicom.frames import Frame
from segkit.imaging.dicom.reading import DamagedError, NotDicomError, quiet, read_dataset, value
from segkit.imaging.overlay import COLOURS
from segkit.imaging.scan import Scan

if TYPE_CHECKING:
    from pydicom import Dataset

    from segkit.imaging.dicom.volume import DicomGeometry

# What pydicom and highdicom raise on headers that lack something or say it wrongly; the texts may hold values.
UNFIT = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
_INSTEAD = "write NIfTI alone: -o mask.nii.gz"
_BRAIN = ("", "BRAIN", "HEAD", "SKULL")
# Attributes that every study has but that some files leave out, empty as the standard allows.
_TYPE_2 = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber",
    "StudyID", "ReferringPhysicianName", "PositionReferenceIndicator",
)  # fmt: skip


def source_headers(scan: Scan) -> list[Dataset]:
    """The full headers of the images that a mask of `scan` lies on, in the order of its slices.

    Raises:
        FileError: a file has gone or changed since it was read.
    """
    headers = []
    for member in dict.fromkeys(frame.member for frame in _present(scan)):
        try:
            header = read_dataset(member, pixels=False)
        except (DamagedError, NotDicomError) as error:
            raise FileError(scan.source, f"has changed since it was read ({error})") from error
        for name in _TYPE_2:
            if name not in header:
                setattr(header, name, "")
        headers.append(header)
    return headers


def make_segmentation(
    mask: NDArray[np.uint8], scan: Scan, headers: Sequence[Dataset], classes: Sequence[str], author: Author
) -> Dataset:
    """A segmentation of class indices `[S, H, W]`, with a binary segment for each class but the background.

    `headers` are those of `source_headers`, in their order, perhaps without the patient.

    Raises:
        FileError: the images lack what a segmentation must repeat.
    """
    import highdicom
    from pydicom.uid import ExplicitVRLittleEndian

    geometry = _geometry(scan)
    if "FrameOfReferenceUID" not in headers[0]:
        raise FileError(
            scan.source, "has no frame of reference, which a segmentation needs", "write NIfTI: -o mask.nii.gz"
        )
    try:
        with quiet():
            segmentation: Dataset = highdicom.seg.Segmentation(
                source_images=headers,
                pixel_array=_as_sources(mask, scan),
                segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
                segment_descriptions=_segments(classes, headers[0], author),
                series_instance_uid=highdicom.UID(),
                series_number=geometry.free_number,
                sop_instance_uid=highdicom.UID(),
                instance_number=1,
                content_label="SEGKIT",
                content_description="Automatic segmentation, not for diagnosis",
                transfer_syntax_uid=ExplicitVRLittleEndian,
                omit_empty_frames=bool(mask.any()),  # a segmentation must have a frame
                **author.equipment(),
            )
            segmentation.SeriesDescription = f"segkit {author.model}"[:64]
            if "ContentCreatorName" not in segmentation:
                segmentation.ContentCreatorName = ""  # which must be there, and may be empty: nobody drew it
    except UNFIT as error:
        what = f"cannot be referred to by a segmentation ({type(error).__name__})"
        raise FileError(scan.source, what, _INSTEAD) from error
    return segmentation


def write_dataset(path: Path, dataset: Dataset) -> None:
    """Write a DICOM file, atomically. Raises FileError where that cannot be done."""
    try:
        with atomic_path(path) as temporary, quiet():
            dataset.save_as(temporary, enforce_file_format=True)
    except OSError as error:
        raise FileError(path, f"cannot be written ({error.strerror or error})") from error
    except UNFIT as error:
        what = f"cannot be written ({type(error).__name__}: the image lacks what a DICOM file needs)"
        raise FileError(path, what) from error


def _geometry(scan: Scan) -> DicomGeometry:
    if scan.dicom is None:
        raise ValueError("only a scan that was read from DICOM can be referred to")
    return scan.dicom


def _present(scan: Scan) -> list[Frame]:
    return [frame for frame in _geometry(scan).slices if frame is not None]


def _as_sources(mask: NDArray[np.uint8], scan: Scan) -> NDArray[np.uint8]:
    """The mask as `[images, rows, columns]`, one plane for each source image in its own orientation."""
    assert scan.nifti is not None  # every DICOM scan has one
    stored = scan.nifti.to_file(mask).transpose(2, 1, 0)
    frames = _geometry(scan).slices
    planes = [(frame, stored[place]) for place, frame in enumerate(frames) if frame is not None]
    first = planes[0][0].header
    if "PerFrameFunctionalGroupsSequence" not in first:
        return np.stack([plane for _, plane in planes])
    whole = np.zeros((int(value(first, "NumberOfFrames", 1)), *stored.shape[1:]), np.uint8)
    for frame, plane in planes:
        whole[frame.index] = plane
    return whole


def _segments(classes: Sequence[str], header: Dataset, author: Author) -> list[Any]:
    import highdicom

    in_brain = str(value(header, "BodyPartExamined", "")).upper() in _BRAIN
    segments = []
    for number, name in enumerate(classes[1:], 1):
        coding = coding_of(name)
        segments.append(
            highdicom.seg.SegmentDescription(
                segment_number=number,
                segment_label=name[:64],
                segmented_property_category=coding.category,
                segmented_property_type=coding.kind,
                algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
                algorithm_identification=author.algorithm(),
                tracking_uid=highdicom.UID(),
                tracking_id=f"{name} ({author.model})"[:64],
                anatomic_regions=[coding.region] if in_brain else None,
                display_color=highdicom.color.CIELabColor.from_rgb(*COLOURS[(number - 1) % len(COLOURS)]),
            )
        )
    return segments
