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
from segkit.inference.segmenter import Segmentation
from segkit.serving.errors import RequestError, sentence_of
from segkit.serving.models import Served

_TYPES = {
    ".tif": "image/tiff",
    ".png": "image/png",
    ".nii.gz": "application/gzip",
    ".zip": "application/zip",
}
_SUFFIXES = {"png": ".png", "nifti": ".nii.gz", "folder": ".zip"}


@dataclass(frozen=True)
class Answer:
    """The body of a response and what it is."""

    content: bytes
    media_type: str
    file: str = ""  # a name to save it under


def mask_answer(
    result: Segmentation, scan: Scan, served: Served, folder: Path, names: tuple[str, ...], suffix: str
) -> Answer:
    """The mask as a file of type `suffix`, or of the scan's own type; `names` are those of a zip's slices.

    Raises:
        RequestError: 406 for a type that cannot hold this mask.
    """
    values = served.model.metadata.mask_values
    suffix = suffix or _SUFFIXES.get(scan.kind, ".tif")
    if suffix == ".zip":
        return Answer(_zip(result.mask, scan, values, folder, names), _TYPES[".zip"], "mask.zip")
    path = folder / f"mask{suffix}"
    try:
        write_mask(path, result.mask, scan, values)
    except FileError as error:
        raise RequestError(406, sentence_of(error, "such a mask")) from error
    return Answer(path.read_bytes(), _TYPES[suffix], path.name)


def measures(result: Segmentation, scan: Scan, served: Served) -> dict[str, Any]:
    """What `segkit segment --json` writes, without paths."""
    metadata = served.model.metadata
    return {
        "model": served.name,
        "version": served.version,
        "run_id": metadata.run_id,
        "device": served.model.device,
        "shape": list(scan.shape),
        "spacing_mm": scan.spacing and list(scan.spacing),
        "classes": measure(result.mask, scan, metadata.classes),
    }


def measures_answer(result: Segmentation, scan: Scan, served: Served) -> Answer:
    """The measures as JSON."""
    return Answer(json.dumps(measures(result, scan, served)).encode(), "application/json")


def overlay_answer(result: Segmentation, scan: Scan, served: Served) -> Answer:
    """The slices with the mask drawn over them, as PNG."""
    picture = draw_overlay(result.image, result.mask, served.model.metadata.classes, spacing=scan.spacing)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return Answer(buffer.getvalue(), "image/png", "overlay.png")


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
