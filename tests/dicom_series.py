"""Writes DICOM series with known voxels in known places, through pydicom, as a scanner would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

PATIENT = {"PatientName": "Szabo^Ilona", "PatientID": "ID-4711-X", "PatientBirthDate": "19510203", "PatientSex": "F"}
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
TIMING = {
    "flair": {"RepetitionTime": 9000, "EchoTime": 100, "InversionTime": 2500},
    "t1": {"RepetitionTime": 500, "EchoTime": 10},
    "t2": {"RepetitionTime": 4000, "EchoTime": 95},
}


def write_series(
    folder: Path,
    voxels: NDArray[Any],
    *,
    study: str = "1.2.826.0.1.3680043.8.498.1000",
    number: int = 1,
    description: str = "FLAIR",
    timing: str = "flair",
    orientation: tuple[float, ...] = AXIAL,
    origin: tuple[float, float, float] = (-10.0, -20.0, 30.0),
    pixel: tuple[float, float] = (1.0, 1.0),
    gap: float = 3.0,
    skip: tuple[int, ...] = (),
    names: str = "IM{:04}.dcm",
    **attributes: Any,
) -> list[Path]:
    """Write `[slices, rows, columns]` as one file a slice, in an order that is not theirs; give the files by slice.

    Slices lie `gap` mm apart along the normal of `orientation`. `attributes` go into every file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    series = generate_uid(entropy_srcs=[study, str(number)])
    normal = np.cross(orientation[:3], orientation[3:])
    written = []
    for index, plane in enumerate(voxels):
        if index in skip:
            continue
        dataset = new_image(plane, series, study, number, description)
        dataset.InstanceNumber = index + 1
        dataset.ImageOrientationPatient = list(orientation)
        dataset.ImagePositionPatient = [round(float(at), 6) for at in np.array(origin) + normal * gap * index]
        dataset.PixelSpacing = list(pixel)
        dataset.SliceThickness = gap
        for name, value in {**TIMING[timing], **attributes}.items():
            setattr(dataset, name, value)
        place = (index * 7919) % 9973  # so that the names do not sort as the slices do
        path = folder / names.format(place)
        dataset.save_as(path, enforce_file_format=True)
        written.append(path)
    return written


def new_image(plane: NDArray[Any], series: str, study: str, number: int, description: str) -> FileDataset:
    """One image with pixels and patient, without a place."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    for name, value in PATIENT.items():
        setattr(dataset, name, value)
    dataset.SOPClassUID, dataset.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
    dataset.Modality, dataset.Manufacturer, dataset.ImageType = "MR", "Maker", ["ORIGINAL", "PRIMARY", "M"]
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
    dataset.FrameOfReferenceUID = generate_uid(entropy_srcs=[study])
    dataset.SeriesNumber, dataset.SeriesDescription = number, description
    dataset.StudyDate, dataset.StudyTime, dataset.AccessionNumber, dataset.StudyID = "20200304", "101112", "ACC99", "7"
    dataset.ReferringPhysicianName, dataset.BodyPartExamined = "Ref^Doctor", "BRAIN"
    set_pixels(dataset, plane)
    return dataset


def set_pixels(dataset: Dataset, pixels: NDArray[Any]) -> None:
    """Store `[rows, columns]` or `[frames, rows, columns]` of 8 or 16 bits, uncompressed."""
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.dtype.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    if pixels.ndim == 3:
        dataset.NumberOfFrames = len(pixels)
    dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    dataset["PixelData"].VR = "OW" if dataset.BitsAllocated > 8 else "OB"


def write_study(folder: Path, shape: tuple[int, int, int] = (4, 64, 64), seed: int = 0) -> dict[str, NDArray[np.int16]]:
    """A study of pre, FLAIR, post and T2 on one grid in folders of those names; gives the voxels."""
    kinds = {
        "pre": (3, "ax T1 pre", "t1"),
        "flair": (5, "ax FLAIR", "flair"),
        "post": (9, "ax T1 post", "t1"),
        "t2": (4, "ax T2", "t2"),
    }
    random = np.random.default_rng(seed)
    voxels = {}
    for name, (number, description, timing) in kinds.items():
        voxels[name] = random.integers(0, 2000, shape).astype(np.int16)
        write_series(folder / name, voxels[name], number=number, description=description, timing=timing)
    return voxels
