"""Decode slices and whole cases to 8-bit images and class indices."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from segkit.data.cases import Case, CaseSet, Problem, SliceRef
from segkit.data.headers import (
    DECODE_ERRORS,
    PILLOW_FORMATS,
    explain,
    is_usable,
    is_volume,
    read_volume_header,
)
from segkit.errors import FileError

Bytes = npt.NDArray[np.uint8]
FORMAT = 2  # raise when a decoded slice may differ from what this version gives
_UNKNOWN = 255  # class index of a mask value that is no class; at most 255 classes exist


def read_slice(case_set: CaseSet, ref: SliceRef) -> tuple[Bytes, Bytes]:
    """Image uint8 [H, W, C] and class indices uint8 [H, W] of one slice. The arrays may be read-only.

    Raises:
        FileError: a file that cannot be decoded, sizes that differ, a mask value that is no class.
    """
    if is_volume(ref.mask):
        image, mask = _read_volume(ref.images, ref.mask, case_set.mask_values)
        return image[ref.index], mask[ref.index]
    pixels = _read_image(ref.images[0]) if len(ref.images) == 1 else _stack(ref.images)
    indices = class_indices(read_raw_mask(ref.mask), case_set.mask_values, ref.mask)
    if indices.shape != pixels.shape[:2]:
        raise FileError(ref.mask, f"is {_size(indices)}, but {ref.images[0].name} is {_size(pixels)}")
    if pixels.shape[2] != len(case_set.channels):
        raise FileError(ref.images[0], f"has {pixels.shape[2]} channels, not {len(case_set.channels)}")
    return pixels, indices


def read_case(case_set: CaseSet, case: Case) -> tuple[Bytes, Bytes]:
    """Images uint8 [S, H, W, C] and class indices uint8 [S, H, W] of all slices of a patient.

    Raises:
        FileError: as `read_slice`; also a slice whose size is not the patient's.
    """
    pairs = []
    for ref in case.slices:
        image, mask = read_slice(case_set, ref)
        if mask.shape != case.shape:
            raise FileError(ref.images[0], f"is {_size(mask)}, but the patient is {case.shape[1]} x {case.shape[0]}")
        pairs.append((image, mask))
    return np.stack([image for image, _ in pairs]), np.stack([mask for _, mask in pairs])


def without(case_set: CaseSet, problems: list[Problem]) -> CaseSet:
    """The set without every slice that uses a file named in `problems`; a volume loses all its slices."""
    bad = {problem.path for problem in problems}
    cases = []
    for case in case_set.cases:
        kept = tuple(ref for ref in case.slices if ref.mask not in bad and bad.isdisjoint(ref.images))
        if kept:
            cases.append(replace(case, slices=kept))
    return replace(case_set, cases=tuple(cases), problems=(*case_set.problems, *problems))


def fingerprint(case_set: CaseSet) -> str:
    """SHA-256 over the layout, the classes, and the path, size and time of change of every file used.

    Two calls agree as long as no file was touched; the contents are not read.

    Raises:
        FileError: a file has gone since the set was found.
    """
    digest = hashlib.sha256(repr((FORMAT, case_set.layout, case_set.mask_values, case_set.channels)).encode())
    for path in _files(case_set):
        try:
            status = path.stat()
        except OSError as error:
            raise FileError(path, f"cannot be read ({error.strerror})") from error
        name = Path(os.path.relpath(path, case_set.root)).as_posix()
        digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def read_raw_mask(path: Path) -> npt.NDArray[Any]:
    """The values of a mask file as stored, [H, W]; a 1-bit file gives 0 and 255, a palette file its indices.

    Raises:
        FileError: undecodable, or with more than one value a pixel.
    """
    try:
        with Image.open(path, formats=PILLOW_FORMATS) as image:
            raw: npt.NDArray[Any] = np.asarray(image.convert("L") if image.mode == "1" else image)
    except DECODE_ERRORS as error:
        raise FileError(path, f"cannot be decoded ({explain(error)})") from error
    if raw.ndim != 2:
        raise FileError(path, f"has {raw.shape[2]} channels; a mask has one value a pixel")
    if raw.dtype.kind == "f":
        return _whole_numbers(raw, path)
    return raw


def class_indices(raw: npt.NDArray[Any], values: tuple[int, ...], path: Path) -> Bytes:
    """Class index uint8 of each mask value; `values[i]` is the raw value of class i.

    Raises:
        FileError: a value that is not in `values`.
    """
    indices: Bytes
    if raw.dtype == np.uint8 and len(values) == 2 and values[0] == 0:
        # 15 times as fast as a table on the commonest masks
        indices = (raw == values[1]).view(np.uint8)
        known = np.count_nonzero(indices) == np.count_nonzero(raw)
    elif raw.dtype == np.uint8:
        table = np.full(256, _UNKNOWN, np.uint8)
        for index, value in enumerate(values):
            if 0 <= value < 256:
                table[value] = index
        indices = table[raw]
        known = indices.size == 0 or int(indices.max()) != _UNKNOWN
    else:
        places = np.searchsorted(values, raw).clip(0, len(values) - 1)
        known = bool((np.asarray(values)[places] == raw).all())
        indices = places.astype(np.uint8)
    if not known:
        odd = np.setdiff1d(raw, np.asarray(values))[:5].tolist()
        raise FileError(path, f"holds mask values {odd}; known are {list(values)}")
    return indices


def _read_image(path: Path) -> Bytes:
    """One file as uint8 [H, W, bands]; alpha is dropped, more than 8 bits are windowed."""
    try:
        with Image.open(path, formats=PILLOW_FORMATS) as image:
            if image.mode not in ("L", "RGB"):
                return _other_mode(image)
            return _pixels(image)
    except DECODE_ERRORS as error:
        raise FileError(path, f"cannot be decoded ({explain(error)})") from error


def _other_mode(image: Image.Image) -> Bytes:
    if image.mode in ("1", "LA"):
        return _pixels(image.convert("L"))
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        from segkit.imaging.window import to_uint8

        windowed: Bytes = to_uint8(np.asarray(image)[None, ..., None])[0]
        return windowed
    return _pixels(image.convert("RGB"))


def _pixels(image: Image.Image) -> Bytes:
    pixels: Bytes = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _stack(paths: tuple[Path, ...]) -> Bytes:
    images = [_read_image(path) for path in paths]
    for path, image in zip(paths, images, strict=True):
        if image.shape[:2] != images[0].shape[:2]:
            raise FileError(path, f"is {_size(image)}, but {paths[0].name} is {_size(images[0])}")
    return np.concatenate(images, axis=2)


@lru_cache(maxsize=2)
def _read_volume(images: tuple[Path, ...], mask: Path, values: tuple[int, ...]) -> tuple[Bytes, Bytes]:
    """A volume's slices uint8 [S, H, W, C], windowed, and class indices [S, H, W]; the last two are kept."""
    from segkit.imaging.read import read_scan
    from segkit.imaging.window import to_uint8

    # 8-bit NIfTI is windowed as well: those are raw intensities
    windowed = [to_uint8(_read_channels(path), keep_uint8=False) for path in images]
    pixels = windowed[0] if len(windowed) == 1 else np.concatenate(windowed, axis=3)
    raw = read_scan(mask).pixels[..., 0]
    if raw.dtype.kind not in "iu":
        raw = _whole_numbers(raw, mask)
    if raw.shape != pixels.shape[:3]:
        raise FileError(mask, f"has {raw.shape} voxels, but {images[0].name} has {pixels.shape[:3]}")
    indices = class_indices(raw, values, mask)
    pixels.flags.writeable = indices.flags.writeable = False  # shared with later callers
    return pixels, indices


def _read_channels(path: Path) -> npt.NDArray[Any]:
    """Voxels [S, H, W, C] as `read_scan` orders them, also where a fourth axis holds the channels."""
    from segkit.imaging.read import read_scan

    if read_volume_header(path).channels == 1:
        return read_scan(path).pixels

    import nibabel
    from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform

    try:
        image: Any = nibabel.load(path)
        voxels = np.asanyarray(image.dataobj)
    except Exception as error:  # damaged data end in exceptions of zlib, NumPy and nibabel alike
        raise FileError(path, f"cannot be decoded ({explain(error)})") from error
    stored = io_orientation(image.affine if is_usable(image.affine) else np.eye(4))  # type: ignore[no-untyped-call]
    display = ornt_transform(stored, axcodes2ornt(("L", "P", "S")))  # type: ignore[no-untyped-call]
    ordered: npt.NDArray[Any] = apply_orientation(voxels, display)  # type: ignore[no-untyped-call]
    return ordered.transpose(2, 1, 0, 3)


def _whole_numbers(raw: npt.NDArray[Any], path: Path) -> npt.NDArray[np.int64]:
    if np.isfinite(raw).all():
        whole: npt.NDArray[np.int64] = np.rint(raw).astype(np.int64)
        if np.abs(raw - whole).max(initial=0) < 1e-3:  # a scale factor in the header leaves rounding errors
            return whole
    raise FileError(path, "holds fractions; a mask has one whole number a pixel")


def _files(case_set: CaseSet) -> list[Path]:
    refs = [ref for case in case_set.cases for ref in case.slices]
    return sorted({path for ref in refs for path in (*ref.images, ref.mask)})


def _size(array: npt.NDArray[Any]) -> str:
    return f"{array.shape[1]} x {array.shape[0]}"
