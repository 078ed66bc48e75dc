"""Stored pixels to intensities: unpacked, padding out, the bright end up, slope and intercept applied."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segkit.errors import FileError
from segkit.imaging.dicom.files import Member
from segkit.imaging.dicom.frames import Frame
from segkit.imaging.dicom.reading import DamagedError, NotDicomError, number, quiet, read_dataset, value
from segkit.imaging.dicom.stacks import Stack

if TYPE_CHECKING:
    from pydicom import Dataset


def read_voxels(stack: Stack) -> NDArray[Any]:
    """Intensities `[slices, rows, columns]`; missing slices and padding are NaN (then the type is float32).

    Raises:
        FileError: a slice that cannot be unpacked, by its instance number.
    """
    frames = stack.frames
    rows, columns = stack.first.shape
    dtype = _common_type(stack)
    out = np.full((len(frames), rows, columns), np.nan if dtype.kind == "f" else 0, dtype)
    by_member: dict[Member, list[int]] = {}
    for place, frame in enumerate(frames):
        if frame is not None:
            by_member.setdefault(frame.member, []).append(place)
    for member, places in by_member.items():
        chosen = [frame for place in places if (frame := frames[place]) is not None]
        for place, plane in zip(places, _read_frames(member, chosen, stack), strict=True):
            out[place] = plane
    return out


def _common_type(stack: Stack) -> np.dtype[Any]:
    """float32 where anything scales, is padding or is missing; else the stored type. 32 stored bits give float64."""
    stored = {_stored_type(frame.header) for frame in stack.present}
    plain = all((frame.slope, frame.intercept) == (1, 0) for frame in stack.present)
    headers = [frame.header for frame in stack.present]
    extra = any("PixelPaddingValue" in header or "ModalityLUTSequence" in header for header in headers)
    if plain and not extra and len(stored) == 1 and len(stack.present) == len(stack.frames):
        return stored.pop()
    return np.dtype(np.float64 if any(one.itemsize > 2 for one in stored) else np.float32)


def _stored_type(header: Dataset) -> np.dtype[Any]:
    bits = int(number(header, "BitsAllocated") or 16)
    if bits <= 8:
        return np.dtype(np.int8 if _is_signed(header) else np.uint8)
    if bits <= 16:
        return np.dtype(np.int16 if _is_signed(header) else np.uint16)
    return np.dtype(np.float64)


def _is_signed(header: Dataset) -> bool:
    return number(header, "PixelRepresentation") == 1


def _read_frames(member: Member, frames: Sequence[Frame], stack: Stack) -> Iterator[NDArray[Any]]:
    source, number_ = Path(stack.name), frames[0].instance  # no file name: it may be the patient's
    try:
        dataset = read_dataset(member, pixels=True)
    except (DamagedError, NotDicomError) as error:
        raise FileError(source, f"instance {number_} {error}") from error
    for frame in frames:
        try:
            stored = _unpack(dataset, frame.index)
        except Exception as error:  # decoders have no common base; their texts may hold values of the file
            with quiet():
                why, remedy = _why(dataset, error), _remedy(dataset)
            raise FileError(source, f"instance {number_} {why}", remedy) from error
        if stored.shape != stack.first.shape:
            raise FileError(source, f"instance {number_} unpacks to {stored.shape}, not to {stack.first.shape}")
        yield _intensities(stored, frame, dataset)


def _unpack(dataset: Dataset, index: int) -> NDArray[Any]:
    from pydicom.pixels.utils import pixel_array

    with quiet():
        if "PixelData" not in dataset and "FloatPixelData" not in dataset and "DoubleFloatPixelData" not in dataset:
            raise DamagedError("holds no pixels")
        stored: NDArray[Any] = pixel_array(dataset, index=index, raw=True)
    return stored


def _intensities(stored: NDArray[Any], frame: Frame, dataset: Dataset) -> NDArray[Any]:
    header = frame.header
    padding = _is_padding(stored, header)
    values = stored
    if str(value(header, "PhotometricInterpretation", "")) == "MONOCHROME1":
        values = _inverted(values, header)
    if "ModalityLUTSequence" in dataset:
        from pydicom.pixels.processing import apply_modality_lut

        with quiet():
            values = apply_modality_lut(values, dataset)
    elif (frame.slope, frame.intercept) != (1, 0):
        values = values.astype(np.float64) * frame.slope + frame.intercept
    if padding is not None and padding.any():
        values = values.astype(np.float64)
        values[padding] = np.nan
    return values


def _is_padding(stored: NDArray[Any], header: Dataset) -> NDArray[np.bool_] | None:
    low = number(header, "PixelPaddingValue")
    if low is None:
        return None
    if not _is_signed(header) and low < 0:
        low += 2 ** int(number(header, "BitsAllocated") or 16)  # written as a signed number, as older scanners do
    limit = number(header, "PixelPaddingRangeLimit")
    high = low if limit is None else limit
    inside: NDArray[np.bool_] = (stored >= min(low, high)) & (stored <= max(low, high))
    return inside


def _inverted(values: NDArray[Any], header: Dataset) -> NDArray[Any]:
    """MONOCHROME1, where large is dark, mirrored within the range of its bits."""
    bits = int(number(header, "BitsStored") or 16)
    if values.dtype.kind == "f":
        return -values
    highest = -1 if _is_signed(header) else 2**bits - 1
    mirrored: NDArray[Any] = values.dtype.type(highest) - values
    return mirrored


def _why(dataset: Dataset, error: Exception) -> str:
    if isinstance(error, DamagedError):
        return str(error)
    syntax = dataset.file_meta.TransferSyntaxUID
    name = getattr(syntax, "name", "an unknown transfer syntax")
    return f"cannot be unpacked ({name}: {type(error).__name__})"


def _remedy(dataset: Dataset) -> str:
    """What to install, where a decoder is missing; else nothing helps but another copy."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import JPEGExtended12Bit

    if dataset.file_meta.TransferSyntaxUID == JPEGExtended12Bit and find_spec("libjpeg") is None:
        return "lossy JPEG of 12 bits needs one more decoder: pip install 'segkit[jpeg12]' (GPL)"
    try:
        decoder = get_decoder(dataset.file_meta.TransferSyntaxUID)
    except NotImplementedError:
        return "save the series uncompressed"
    return "get the file again" if decoder.is_available else "install the decoders: pip install 'segkit[dicom]'"
