"""Sizes of image files and volumes from their headers alone, so that thousands are looked at in a second."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segkit.errors import FileError

PILLOW_FORMATS = ("TIFF", "PNG", "JPEG")
# What Pillow raises on broken files differs with format and version; none of these is a bug of ours.
DECODE_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    TypeError,
    IndexError,
    KeyError,
    EOFError,
    OverflowError,
    struct.error,
    Image.DecompressionBombError,
)
_BANDS = {"1": 1, "L": 1, "LA": 1, "I": 1, "F": 1, "I;16": 1, "I;16B": 1, "I;16L": 1, "I;16N": 1}
_MILLIMETRES = {"meter": 1000.0, "micron": 0.001}  # any other unit is taken for millimetres
_TIFF_HEAD = 1024  # bytes; the writers of single-slice TIFFs put the whole directory in front


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """Size of a file that holds one slice; `bands` counts channels without alpha, a palette as colour."""

    height: int
    width: int
    bands: int
    palette: bool = False


@dataclass(frozen=True, slots=True)
class VolumeHeader:
    """Size of a volume as its axial slices are read: [slices, height, width, channels]."""

    slices: int
    height: int
    width: int
    channels: int
    spacing: tuple[float, float, float] | None  # millimetres between slices, rows, columns


def is_volume(path: Path) -> bool:
    """Whether the name is that of a NIfTI file."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def read_image_header(path: Path) -> ImageHeader:
    """Size of a TIFF, PNG or JPEG slice without decoding it.

    Raises:
        FileError: absent, not such a file, cut short (where the header tells), or of several pages.
    """
    try:
        return _plain_tiff_header(path) or _pillow_header(path)
    except FileError:
        raise
    except DECODE_ERRORS as error:
        raise FileError(path, f"cannot be read ({explain(error)})") from error


def explain(error: BaseException) -> str:
    """One line for a decoder's exception, without the object addresses and paths that Pillow puts in."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return "not an image in a known format" if text.startswith("cannot identify") else text


def _pillow_header(path: Path) -> ImageHeader:
    with Image.open(path, formats=PILLOW_FORMATS) as image:
        pages = getattr(image, "n_frames", 1)
        if pages != 1:
            raise FileError(path, f"has {pages} pages, a slice file has one", "write a file a slice")
        return ImageHeader(image.height, image.width, _BANDS.get(image.mode, 3), image.mode == "P")


def _plain_tiff_header(path: Path) -> ImageHeader | None:
    """The header of an uncompressed 8-bit TIFF of one page and one strip, about 8 times as fast as Pillow.

    None means "some other file, ask Pillow". Tags are those of the TIFF 6.0 specification.
    """
    with path.open("rb") as file:
        head = file.read(_TIFF_HEAD)
        order = {b"II*\0": "<", b"MM\0*": ">"}.get(head[:4])
        if order is None:
            return None
        start = struct.unpack_from(order + "I", head, 4)[0]
        if start + 2 > len(head):
            return None
        count = struct.unpack_from(order + "H", head, start)[0]
        end = start + 2 + 12 * count
        if end + 4 > len(head) or struct.unpack_from(order + "I", head, end)[0] != 0:
            return None
        tags = {}
        for position in range(start + 2, end, 12):
            tag, kind, number = struct.unpack_from(order + "HHI", head, position)
            if kind in (3, 4) and number == 1:
                tags[tag] = struct.unpack_from(order + ("H" if kind == 3 else "I"), head, position + 8)[0]
            elif tag == 258 and kind == 3 and number == 3:
                where = struct.unpack_from(order + "I", head, position + 8)[0]
                tags[tag] = 8 if head[where : where + 6] == struct.pack(order + "3H", 8, 8, 8) else 0
        bands = {1: 1, 2: 3}.get(tags.get(262, -1), 0)
        plain = tags.get(259, 1) == 1 and tags.get(258) == 8 and tags.get(277, 1) == bands and tags.get(284, 1) == 1
        if not plain or not {256, 257, 273} <= tags.keys():
            return None
        needed = tags[273] + tags[256] * tags[257] * bands
        size = file.seek(0, 2)
    if size < needed:
        raise FileError(path, f"is cut short ({size} of {needed} bytes)", "copy it again")
    return ImageHeader(tags[257], tags[256], bands)


def read_volume_header(path: Path) -> VolumeHeader:
    """Size of a NIfTI volume seen as axial slices, without reading its voxels.

    Raises:
        FileError: absent, not NIfTI, or neither 3-D nor 4-D.
    """
    import nibabel

    try:
        image: Any = nibabel.load(path)
        shape = tuple(int(n) for n in image.shape)
        affine: Any = image.affine
        millimetres = _MILLIMETRES.get(image.header.get_xyzt_units()[0], 1.0)
    except Exception as error:  # nibabel has a class of its own for each way a header can be wrong
        raise FileError(path, f"cannot be read as NIfTI ({explain(error)})") from error
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise FileError(path, f"has the shape {shape}; a volume has three axes, or four with channels last")
    x, y, z = axes_of(affine)
    steps = np.sqrt((affine[:3, :3] ** 2).sum(axis=0)) * millimetres
    spacing = (float(steps[z]), float(steps[y]), float(steps[x])) if is_usable(affine) else None
    return VolumeHeader(shape[z], shape[y], shape[x], shape[3] if len(shape) == 4 else 1, spacing)


def is_usable(affine: Any) -> bool:
    """Whether a 4x4 affine names an orientation; otherwise the axes are taken as x, y, z."""
    return bool(np.isfinite(affine).all()) and abs(float(np.linalg.det(affine[:3, :3]))) > 1e-12


def axes_of(affine: Any) -> tuple[int, int, int]:
    """The axes of the file's array that run left-right, front-back and up-down."""
    from nibabel.orientations import io_orientation

    world = io_orientation(affine if is_usable(affine) else np.eye(4))[:, 0].tolist()  # type: ignore[no-untyped-call]
    return world.index(0), world.index(1), world.index(2)
