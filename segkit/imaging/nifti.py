"""NIfTI-1 and -2: the header through nibabel, the voxels read here, so that no claim goes unchecked."""

from __future__ import annotations

import gzip
import math
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from segkit.errors import FileError
from segkit.imaging.grid import display_axes, display_spacing, largest_shift
from segkit.imaging.marks import MARK
from segkit.imaging.scan import MAX_BYTES, MAX_SLICE_PIXELS, NiftiGeometry, Scan
from segkit.imaging.sniff import HEAD_BYTES, unreadable

_MAX_OFFSET = 2**26  # of the voxels in the file: header extensions of 64 MiB
_MILLIMETRES = {
    1: 1000.0,
    3: 0.001,
}  # metre and micron by the code in xyzt_units; anything else is taken for mm
_FORMS_DIFFER = 0.5  # voxels between sform and qform that are worth a word
_CIFTI_INTENTS = range(3000, 3100)


def read_nifti(path: Path, volumes: str | None = None) -> Scan:
    """Read a volume, scale factors applied, with slices to superior, rows to posterior and columns to left.

    The affine stays that of the file. Trailing axes of length 1 are dropped. Of a file with several volumes
    `volumes` chooses: numbers from 0, with commas between, or "all". Several become channels.

    Raises:
        FileError: damaged, truncated, too large, one half of a .hdr/.img pair, several volumes with none
            chosen, or CIFTI.
    """
    header_path, data_path = _pair(path)
    header = _read_header(header_path)
    shape = _shape(path, header)
    chosen = _chosen(path, shape, volumes)
    stored = _read_voxels(path, data_path, header, shape, chosen)
    affine = _affine(header)
    order, flips = display_axes(affine)
    geometry = NiftiGeometry(*_one_volume(header, shape), order, flips)
    displayed = [geometry.to_display(volume) for volume in stored]
    pixels = displayed[0][..., np.newaxis] if len(displayed) == 1 else np.stack(displayed, axis=-1)
    unit = _MILLIMETRES.get(int(header["xyzt_units"]) & 7, 1.0)
    spacing = display_spacing(affine, order, unit) if affine is not None else None
    names = ("image",) if len(chosen) == 1 else tuple(f"volume {number}" for number in chosen)
    notes = tuple(_notes(path, header, affine, shape, unit))
    return Scan(pixels, spacing, affine, names, path, "nifti", geometry, notes=notes)


def mask_header(geometry: NiftiGeometry) -> bytes:
    """The input's header, bit for bit, but for the fields that say what the voxels are: here 8-bit labels."""
    header = _parse(geometry.header)
    header.set_data_dtype(np.uint8)
    header["magic"] = header.single_magic  # the mask of a pair is one file
    header["vox_offset"] = header.single_vox_offset
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["cal_min"], header["cal_max"] = 0, 0
    header["intent_code"], header["intent_name"] = 1002, MARK.encode()  # NIFTI_INTENT_LABEL
    return bytes(header.binaryblock)


def _pair(path: Path) -> tuple[Path, Path]:
    """The files that hold the header and the voxels: one for .nii, two for .hdr and .img."""
    for suffix, other in ((".hdr", ".img"), (".img", ".hdr")):
        for packed in ("", ".gz"):
            if path.name.lower().endswith(suffix + packed):
                stem = path.name[: -len(suffix + packed)]
                partner = path.with_name(stem + other + packed)
                if not partner.exists():
                    raise FileError(path, f"is one half of a pair and {partner.name} is not beside it")
                return (path, partner) if suffix == ".hdr" else (partner, path)
    return path, path


def _open(path: Path) -> BinaryIO:
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        return cast(BinaryIO, gzip.open(path)) if packed else path.open("rb")
    except OSError as error:
        raise unreadable(path, error) from error


def _read_header(path: Path) -> Any:
    try:
        with _open(path) as file:
            head = file.read(HEAD_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise FileError(path, f"is a damaged gzip file ({error})") from error
    try:
        return _parse(head)
    except Exception as error:  # nibabel has no common base for what a damaged header makes it raise
        raise FileError(path, f"has no NIfTI header that can be used ({_first_line(error)})") from error


def _parse(head: bytes) -> Any:
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    if len(head) < 348:
        raise ValueError(f"only {len(head)} bytes")
    second = head[4:6] in (b"n+", b"ni")
    if not second and head[344:346] not in (b"n+", b"ni"):
        raise ValueError("Analyze 7.5 or another format without orientation")
    cls, size = (Nifti2Header, 540) if second else (Nifti1Header, 348)
    return cls(head[:size], check=False)  # type: ignore[no-untyped-call]


def _shape(path: Path, header: Any) -> tuple[int, ...]:
    """The shape of the file's array, after everything that would not give one readable volume is refused."""
    if int(header["intent_code"]) in _CIFTI_INTENTS:
        raise FileError(path, "is CIFTI (a surface or a connectivity matrix), not a volume")
    axes = int(header["dim"][0])
    shape = tuple(int(length) for length in header["dim"][1 : axes + 1])
    if not 1 <= axes <= 7 or min(shape) < 1:
        raise FileError(path, f"claims the impossible shape {shape}")
    return shape


def _chosen(path: Path, shape: tuple[int, ...], volumes: str | None) -> list[int]:
    """The numbers of the volumes to read. Raises FileError where that is not one and none was chosen."""
    count = math.prod(shape[3:])
    if volumes is None and count == 1:
        return [0]
    axis = next((f"its axis {number + 1}" for number in range(3, len(shape)) if shape[number] > 1), "no fourth axis")
    what = f"holds {count} volumes along {axis} ({' x '.join(map(str, shape))})"
    remedy = f"--volume 0 to --volume {count - 1} takes one, --volume all or 0,1 takes them as channels"
    if volumes is None:
        raise FileError(path, what, remedy)
    numbers = list(range(count)) if volumes == "all" else _numbers(volumes)
    if not numbers or not all(number < count for number in numbers):
        raise FileError(path, f"{what}, of which --volume {volumes} names none", remedy)
    return numbers


def _numbers(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    return [int(part) for part in parts] if all(part.isdecimal() for part in parts) else []


def _one_volume(header: Any, shape: tuple[int, ...]) -> tuple[bytes, tuple[int, ...]]:
    """The header and the shape of a mask: the file's own, or for a file of several volumes those of one."""
    if math.prod(shape[3:]) == 1:
        return bytes(header.binaryblock), shape
    copy = _parse(bytes(header.binaryblock))
    copy["dim"] = [3, *shape[:3], 1, 1, 1, 1]
    return bytes(copy.binaryblock), shape[:3]


def _read_voxels(
    path: Path, data_path: Path, header: Any, shape: tuple[int, ...], chosen: list[int]
) -> list[NDArray[Any]]:
    """The chosen volumes of the file [i, j, k], scaled, in the machine's byte order."""
    dtype = _dtype(path, header)
    spatial = (*shape, 1, 1)[:3]
    count = math.prod(spatial)
    if count * max(4, dtype.itemsize) * len(chosen) > MAX_BYTES or count // min(spatial) > MAX_SLICE_PIXELS:
        raise FileError(
            path,
            f"claims {' x '.join(map(str, shape))} voxels, which is more than is read at once",
            "crop it",
        )
    offset = float(header["vox_offset"])
    single = data_path.name.lower().removesuffix(".gz").endswith(".nii")
    start = max(int(header.sizeof_hdr if single else 0), int(offset) if math.isfinite(offset) else _MAX_OFFSET + 1)
    if start > _MAX_OFFSET:
        raise FileError(path, f"claims that its voxels begin at byte {offset:g}")
    volumes = {}
    for number in sorted(set(chosen)):  # in the file's order: going back in a gzip file means from its beginning
        at = start + number * count * dtype.itemsize
        voxels = _read_exactly(data_path, at, count * dtype.itemsize).view(dtype)
        if not dtype.isnative:
            voxels = voxels.byteswap(inplace=True).view(dtype.newbyteorder("="))
        volumes[number] = _scaled(path, header, voxels).reshape(spatial, order="F")
    return [volumes[number] for number in chosen]


def _dtype(path: Path, header: Any) -> np.dtype[Any]:
    try:
        dtype: np.dtype[Any] = header.get_data_dtype()
    except Exception as error:  # as in _read_header
        raise FileError(path, f"has voxels of an unknown type ({_first_line(error)})") from error
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise FileError(path, f"has voxels of type {dtype}", "save them as integers or floats of at most 64 bits")
    return dtype


def _read_exactly(path: Path, start: int, count: int) -> NDArray[np.uint8]:
    """`count` bytes from `start`. The buffer is only touched as far as there are bytes."""
    buffer = np.empty(count, np.uint8)
    done = 0
    try:
        with _open(path) as file:
            file.seek(start)
            while done < count:
                step = file.readinto(buffer[done : done + 2**20].data)  # type: ignore[attr-defined]
                if not step:
                    break
                done += step
    except (OSError, EOFError, zlib.error) as error:
        raise FileError(path, f"is damaged after {done} bytes of voxels ({_first_line(error)})") from error
    if done < count:
        raise FileError(path, f"is truncated: {done} of {count} bytes of voxels are there")
    return buffer


def _scaled(path: Path, header: Any, voxels: NDArray[Any]) -> NDArray[Any]:
    try:
        slope, intercept = header.get_slope_inter()
    except Exception as error:  # as in _read_header
        raise FileError(path, f"has an impossible scale factor ({_first_line(error)})") from error
    if slope is None or (slope, intercept) == (1, 0):
        return voxels
    with np.errstate(all="ignore"):
        scaled = voxels.astype(np.float32)
        scaled *= np.float32(slope)
        scaled += np.float32(intercept)
    return scaled


def _affine(header: Any) -> NDArray[np.float64] | None:
    """The affine that nibabel would choose (sform, qform, pixdim in this order); None if it is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            affine = np.asarray(header.get_best_affine(), np.float64)
            usable = bool(np.isfinite(affine).all()) and abs(np.linalg.det(affine[:3, :3])) > 1e-12
    except Exception:  # as in _read_header; a scan without orientation can still be segmented
        return None
    return affine if usable else None


def _notes(
    path: Path, header: Any, affine: NDArray[np.float64] | None, shape: tuple[int, ...], unit: float
) -> Iterator[str]:
    """What the header leaves open: two affines that disagree, or none."""
    sform, qform = int(header["sform_code"]), int(header["qform_code"])
    if affine is None:
        yield f"{path}: has no usable orientation; its axes are taken for right, anterior, superior"
    elif not sform and not qform:
        yield f"{path}: says nothing of its orientation (sform and qform codes are 0); left and right are a guess"
    elif sform and qform:
        try:
            other = np.asarray(header.get_qform(), np.float64)
        except Exception:  # as in _read_header; the sform alone is used then
            return
        shift = largest_shift(affine, other, (*shape, 1, 1)[:3])
        if np.isfinite(other).all() and shift > _FORMS_DIFFER * min(np.linalg.norm(affine[:3, :3], axis=0)):
            yield f"{path}: sform and qform differ by up to {shift * unit:.3g} mm; the sform is used, both are kept"


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:120]
