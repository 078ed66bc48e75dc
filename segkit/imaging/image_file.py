"""TIFF and PNG through Pillow: every pixel mode as a plain array, every broken file as one line."""

from __future__ import annotations

import contextlib
import logging
import os
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import TiffImagePlugin
from PIL.Image import Image

from segkit.errors import FileError
from segkit.imaging.scan import MAX_BYTES, MAX_SLICE_PIXELS, Scan
from segkit.imaging.sniff import unreadable

# What Pillow's parsers raise on damaged files: nearly anything but its own error type.
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    struct.error,
)

# The mode that each other mode is turned into. Modes absent here (L, RGB, RGBA, LA, I, F, I;16) stay.
_CONVERSIONS = {"1": "L", "P": "RGB", "PA": "RGBA", "CMYK": "RGB", "YCbCr": "RGB", "LAB": "RGB", "HSV": "RGB"}
_CONVERSIONS |= {"RGBX": "RGB", "RGBa": "RGBA", "La": "LA"}
_NAMES = {
    1: ("grey",),
    2: ("grey", "alpha"),
    3: ("red", "green", "blue"),
    4: ("red", "green", "blue", "alpha"),
}


# Pillow logs about damaged files; the FileError says it already. Handlers of the program still get it.
logging.getLogger("PIL").addHandler(logging.NullHandler())
_stderr_lock = threading.Lock()


def read_image_file(path: Path) -> Scan:
    """Read a TIFF (each page is a slice) or a PNG.

    Raises:
        FileError: damaged, too large, pages that differ, or 16 bits a colour (of which Pillow keeps 8).
    """
    pages, kind = _read_pages(path)
    return Scan(pages, None, None, _NAMES[pages.shape[-1]], path, kind)


def _read_pages(path: Path) -> tuple[NDArray[np.generic], str]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise unreadable(path, error) from error
    with file:
        kind = "png" if file.read(4) == b"\x89PNG" else "tiff"
        file.seek(0)
        try:
            with _open(file, kind) as image:
                return _pages(path, image), kind
        except _BROKEN as error:
            what = f"is a damaged or unusual {kind.upper()} file ({_first_line(error)})"
            raise FileError(path, what, "save it again as a plain TIFF or PNG") from error


def _open(file: BinaryIO, kind: str) -> Image:
    # The plug-ins themselves, because Image.open() imports those of other formats first.
    if kind == "tiff":
        return TiffImagePlugin.TiffImageFile(file)
    from PIL import PngImagePlugin

    return PngImagePlugin.PngImageFile(file)


def _pages(path: Path, image: Image) -> NDArray[np.generic]:
    _check_page(path, image)
    first = _to_array(image)
    if not isinstance(image, TiffImagePlugin.TiffImageFile) or not image.tag_v2.next:
        return first[np.newaxis]  # an animated PNG counts as its first picture
    count = image.n_frames
    if count * max(first.nbytes, 4 * first.size) > MAX_BYTES:
        raise _too_large(path, f"{count} pages of {_describe(first)}")
    pages = np.empty((count, *first.shape), first.dtype)
    pages[0] = first
    for number in range(1, count):
        image.seek(number)
        _check_page(path, image)
        page = _to_array(image)
        if page.shape != first.shape or page.dtype != first.dtype:
            reason = f"page {number + 1} is {_describe(page)}, page 1 is {_describe(first)}"
            raise FileError(path, reason, "save the pages of one size as a file of their own")
        pages[number] = page
    return pages


def _check_page(path: Path, image: Image) -> None:
    """Refuse what is too large or would lose its lower bits, before any pixel is decoded."""
    width, height = image.size
    if width * height > MAX_SLICE_PIXELS:
        raise _too_large(path, f"{width} x {height} pixels")
    if image.mode not in ("I;16", "I;16B", "I", "F") and _bits(image) > 8:
        remedy = "save it with 8 bits a channel, or each channel as a grey file of 16 bits"
        raise FileError(path, f"has {_bits(image)} bits a colour channel, of which only 8 would be read", remedy)


def _bits(image: Image) -> int:
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return int(max(image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (1,))))
    return 16 if any("16" in str(tile[3]) for tile in getattr(image, "tile", ())) else 8


def _to_array(image: Image) -> NDArray[np.generic]:
    """One page as `[height, width, channels]` in the machine's byte order."""
    palette = image.mode in ("P", "PA")
    mode = _CONVERSIONS.get(image.mode)
    with _quiet_libtiff(image):
        image.load()
    pixels = np.asarray(image.convert(mode) if mode else image)
    if not pixels.dtype.isnative:
        pixels = pixels.astype(pixels.dtype.newbyteorder("="))
    if pixels.ndim == 2:
        return pixels[..., np.newaxis]
    if palette and (pixels[..., 0:1] == pixels[..., 1:3]).all():
        return pixels[..., :1]  # a grey image that was saved with a palette
    return pixels


@contextlib.contextmanager
def _quiet_libtiff(image: Image) -> Iterator[None]:
    """Keep libtiff, which decodes compressed TIFF, from writing to the terminal what the FileError says."""
    tile = getattr(image, "tile", None)
    if not tile or tile[0][0] != "libtiff":
        yield
        return
    with _stderr_lock:
        if sys.stderr is not None:
            sys.stderr.flush()
        try:
            saved = os.dup(2)
        except OSError:  # there is no standard error that it could write to
            yield
            return
        try:
            with Path(os.devnull).open("wb") as nowhere:
                os.dup2(nowhere.fileno(), 2)
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def _describe(page: NDArray[np.generic]) -> str:
    height, width, channels = page.shape
    return f"{width} x {height} x {channels} {page.dtype}"


def _too_large(path: Path, what: str) -> FileError:
    return FileError(path, f"claims {what}, which is more than is read at once", "crop it or split it")


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:120]
