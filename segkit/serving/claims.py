"""What a scan says that it is, read from its header alone, before anything is allocated for it."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path

from segkit.imaging.scan import MAX_SLICE_PIXELS
from segkit.imaging.sniff import head_of, kind_of, unzipped_head
from segkit.serving.config import Limits
from segkit.serving.errors import RequestError

_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Claims:
    """The size a scan claims; channels are values a voxel."""

    kind: str
    slices: int
    height: int
    width: int
    channels: int = 1

    @property
    def values(self) -> int:
        """Voxels times channels."""
        return self.slices * self.height * self.width * self.channels

    def check(self, limits: Limits) -> None:
        """Raises RequestError 413 where the scan is larger than it may be."""
        size = f"{self.width} x {self.height} x {self.slices}"
        if self.slices > limits.max_slices:
            raise RequestError(413, f"the scan has {self.slices} slices, and at most {limits.max_slices} are taken")
        if self.height * self.width > MAX_SLICE_PIXELS or self.values > limits.voxels:
            allowed = f"{limits.max_megavoxels:g} x 2^20 values"
            raise RequestError(413, f"the scan claims {size} with {self.channels} channels, more than {allowed}")


def claims_of(path: Path, limits: Limits) -> Claims | None:
    """The claims of a file; None of a kind whose header is not understood here: its reader has limits of its own.

    Raises:
        FileError: the file is not a scan.
        RequestError: 413 too large, 400 a header that makes no sense.
    """
    kind = kind_of(path)
    if kind == "png":
        found = _png(head_of(path))
    elif kind == "tiff":
        found = _tiff(path, limits)
    elif kind == "nifti":
        head = head_of(path)
        found = _nifti(unzipped_head(path) if head.startswith(_GZIP) else head)
    else:
        return None
    found.check(limits)
    return found


def _png(head: bytes) -> Claims:
    if head[12:16] != b"IHDR" or len(head) < 29:
        raise RequestError(400, "the scan is a damaged PNG file")
    width, height, _, colour = struct.unpack(">IIBB", head[16:26])
    return Claims("png", 1, height, width, {0: 1, 4: 2, 6: 4}.get(colour, 3))


def _tiff(path: Path, limits: Limits) -> Claims:
    """By Pillow, page by page, so that a file of a million pages is left after the first few thousand."""
    from PIL import TiffImagePlugin

    pages = 0
    try:
        with path.open("rb") as file, TiffImagePlugin.TiffImageFile(file) as image:
            (width, height), channels = image.size, len(image.getbands())
            while pages <= limits.max_slices:
                Claims("tiff", pages, height, width, channels).check(limits)
                image.seek(pages)
                if image.size != (width, height):
                    raise RequestError(400, "the scan is a TIFF file with pages of several sizes")
                pages += 1
    except RequestError:
        raise
    except EOFError:  # after the last page
        pass
    except Exception as error:  # as for its reader: nearly anything comes from damaged files
        raise RequestError(400, f"the scan is a damaged or unusual TIFF file ({_why(error)})") from error
    return Claims("tiff", pages, height, width, channels)


def _nifti(head: bytes) -> Claims:
    """NIfTI-1 and -2 of either byte order; of slices and their sides the order does not matter here."""
    lengths = _nifti_lengths(head)
    if lengths is None or min(lengths, default=0) < 1 or math.prod(lengths) > 2**62:
        raise RequestError(400, "the scan has no NIfTI header that can be used")
    width, height, slices = (*lengths, 1, 1)[:3]
    return Claims("nifti", slices, height, width, math.prod(lengths[3:]))


def _nifti_lengths(head: bytes) -> tuple[int, ...] | None:
    if len(head) < 348:
        return None
    second = head[4:6] in (b"n+", b"ni") and len(head) >= 540
    for order in "<>":
        if second:
            dim = struct.unpack(f"{order}8q", head[16:80])
        else:
            dim = struct.unpack(f"{order}8h", head[40:56])
        if 1 <= dim[0] <= 7:
            return dim[1 : dim[0] + 1]
    return None


def _why(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:100]
