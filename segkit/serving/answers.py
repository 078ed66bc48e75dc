"""A segmentation as the client wants it: mask file, measures, or a picture. Blocks; runs in a request's thread."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segkit.errors import FileError
from segkit.imaging.naming import stem_of
from segkit.imaging.overlay import draw_overlay
from segkit.imaging.scan import Scan
from segkit.imaging.write import write_mask
from segkit.inference.postprocess import measure
from segkit.model_metadata import ModelMetadata
from segkit.serving.engine import Segmented
from segkit.serving.errors import Busy, RequestError
from segkit.serving.models import Served

_TYPES = {
    ".tif": "image/tiff",
    ".png": "image/png",
    ".nii.gz": "application/gzip",
    ".zip": "application/zip",
    ".dcm": "application/dicom",
}
_SUFFIXES = {"png": ".png", "nifti": ".nii.gz", "folder": ".zip", "dicom": ".dcm"}


@dataclass(frozen=True)
class Answer:
    """The body of a response and what it is."""

    content: bytes
    media_type: str
    file: str = ""  # a name to save it under


def mask_answer(done: Segmented, served: Served, suffix: str) -> Answer:
    """The mask as a file of type `suffix`, or of the scan's own type; in a zip it is named as the slices were.

    Raises:
        RequestError: 406 for a type that cannot hold this mask.
        Busy: the disk is full.
    """
    scan, mask, folder, metadata = done.scan, done.result.mask, done.folder, served.model.metadata
    suffix = suffix or _SUFFIXES.get(scan.kind, ".tif")
    if suffix == ".zip":
        content = _zip(mask, scan, metadata.mask_values, folder, done.upload.names)
        return Answer(content, _TYPES[".zip"], "mask.zip")
    path = folder / f"mask{suffix}"
    try:
        if suffix == ".dcm":
            _write_dicom(path, mask, scan, metadata)
        else:
            write_mask(path, mask, scan, metadata.mask_values)
    except FileError as error:
        if isinstance(error.__cause__, OSError):
            raise Busy("the server has no room for the mask at the moment") from error
        raise RequestError(406, f"such a mask {error.reason.replace(str(path), 'the file')}{_instead(scan)}") from error
    return Answer(path.read_bytes(), _TYPES[suffix], path.name)


def measures(done: Segmented, served: Served) -> dict[str, Any]:
    """What `segkit segment --json` writes, without paths."""
    metadata, scan = served.model.metadata, done.scan
    content: dict[str, Any] = {
        "model": served.name,
        "version": served.version,
        "run_id": metadata.run_id,
        "device": served.model.device,
        "shape": list(scan.shape),
        "spacing_mm": scan.spacing and list(scan.spacing),
        "plane": done.result.plane,
        "rule": done.result.rule.as_metadata(),
        "notes": [note.replace(f"{done.folder}/", "") for note in (*scan.notes, *done.result.notes)],
        "classes": measure(done.result.mask, scan, metadata.classes),
    }
    if scan.dicom is not None:
        content["study_uid"] = scan.dicom.study_uid
        content["series"] = [{"channel": role, "uid": uid, "number": number} for role, uid, number in scan.dicom.series]
    return content


def measures_answer(done: Segmented, served: Served) -> Answer:
    """The measures as JSON."""
    return Answer(json.dumps(measures(done, served)).encode(), "application/json")


def overlay_answer(done: Segmented, served: Served) -> Answer:
    """The slices with the mask drawn over them, as PNG."""
    scan, image = done.scan, done.result.image
    if scan.dicom is not None and "flair" in scan.channels:  # the sequence that a reader looks for lesions on
        at = scan.channels.index("flair")
        image = image[..., at : at + 1]
    picture = draw_overlay(image, done.result.mask, served.model.metadata.classes, spacing=scan.spacing)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return Answer(buffer.getvalue(), "image/png", "overlay.png")


def _write_dicom(path: Path, mask: NDArray[np.uint8], scan: Scan, metadata: ModelMetadata) -> None:
    """A DICOM segmentation that refers to the images that were sent. Raises FileError."""
    if scan.dicom is None:
        raise FileError(path, "would refer to images of DICOM, which the scan is none of")
    from segkit.imaging.dicom.author import Author
    from segkit.imaging.dicom.segmentation import make_segmentation, source_headers, write_dataset

    dataset = make_segmentation(mask, scan, source_headers(scan), metadata.classes, Author.of(metadata))
    write_dataset(path, dataset)


def _instead(scan: Scan) -> str:
    return "" if scan.nifti is None else "; ask for application/gzip"


def _zip(mask: NDArray[np.uint8], scan: Scan, values: tuple[int, ...], folder: Path, names: tuple[str, ...]) -> bytes:
    """A mask file for each slice, named after the slice as `segkit segment` would."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for index in range(len(mask)):
            name = PurePosixPath(names[index]).name if index < len(names) else f"{index:05d}.tif"
            suffix = ".png" if name.lower().endswith(".png") else ".tif"
            path = folder / f"slice{suffix}"
            one = Scan(scan.pixels[index : index + 1], None, None, scan.channels, path, "folder")
            write_mask(path, mask[index : index + 1], one, values)
            archive.writestr(f"{stem_of(Path(name))}_mask{suffix}", path.read_bytes())
    return buffer.getvalue()
