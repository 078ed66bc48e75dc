"""Mask files: each in the format, the size and the place of the scan that it belongs to."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segkit.errors import FileError
from segkit.files import atomic_path
from segkit.imaging.marks import MARK, SOFTWARE
from segkit.imaging.naming import OUTPUT_SUFFIXES
from segkit.imaging.scan import Scan

_NIFTI = (".nii", ".nii.gz")


def check_target(path: Path, scan: Scan) -> None:
    """Whether a mask of `scan` can be written to a file of this name.

    Raises:
        FileError: an unknown suffix, a PNG for several slices, or a NIfTI for a scan without its geometry.
    """
    name = path.name.lower()
    if not name.endswith(OUTPUT_SUFFIXES):
        raise FileError(path, "is no name for a mask", f"end it with one of {', '.join(OUTPUT_SUFFIXES)}")
    if name.endswith(".png") and len(scan.pixels) > 1:
        raise FileError(path, f"cannot hold {len(scan.pixels)} slices as PNG", "end it with .tif")
    if name.endswith(_NIFTI) and scan.nifti is None:
        raise FileError(path, f"{scan.source.name} has no position that a NIfTI mask could keep", "end it with .tif")


def write_mask(path: Path, mask: NDArray[np.uint8], scan: Scan, values: Sequence[int]) -> None:
    """Write class indices `[slices, height, width]` beside or for `scan`, atomically.

    TIFF and PNG get `values[class]`, as the dataset has them; NIfTI gets the class indices, with the affine,
    the shape and the qform and sform of the input.

    Raises:
        FileError: as `check_target`, or the file cannot be written.
    """
    check_target(path, scan)
    if mask.shape != scan.shape:
        raise ValueError(f"a mask of {mask.shape} does not belong to a scan of {scan.shape}")
    try:
        with atomic_path(path) as temporary:
            if path.name.lower().endswith(_NIFTI):
                _write_nifti(temporary, mask, scan)
            else:
                table = np.array(values, np.uint8 if max(values) < 256 else np.uint16)
                _write_image(temporary, mask, table)
    except OSError as error:
        raise FileError(path, f"cannot be written ({error.strerror or error})") from error


def _write_image(path: Path, mask: NDArray[np.uint8], table: NDArray[Any]) -> None:
    from PIL import Image

    first, *others = (Image.fromarray(table[plane]) for plane in mask)
    # No format is named: by the suffix Pillow imports only the writer that it needs.
    if path.suffix.lower() == ".png":
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_text("Software", MARK)
        first.save(path, pnginfo=info)
    else:
        tags = {SOFTWARE: MARK}
        first.save(path, compression="tiff_adobe_deflate", save_all=True, append_images=others, tiffinfo=tags)


def _write_nifti(path: Path, mask: NDArray[np.uint8], scan: Scan) -> None:
    from segkit.imaging.nifti import mask_header

    geometry = scan.nifti
    assert geometry is not None  # check_target
    stored = geometry.to_file(mask).tobytes(order="F")
    content = (mask_header(geometry), b"\0\0\0\0", stored)  # four zeros: no header extensions follow
    if path.name.lower().endswith(".gz"):
        # No time stamp, so that equal masks are equal files; level 6 as gzip itself has it.
        with path.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as file:
            file.writelines(content)
    else:
        with path.open("wb") as file:
            file.writelines(content)
