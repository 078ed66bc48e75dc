"""One door for every scan: a file, a folder of slices, or several files as channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segkit.errors import FileError, SegkitError
from segkit.imaging.grid import SAME_PLACE, largest_shift
from segkit.imaging.naming import slice_files
from segkit.imaging.scan import MAX_BYTES, Scan
from segkit.imaging.sniff import kind_of


def read_scan(source: Path | str | Sequence[Path | str], volumes: str | None = None, reference: int = 0) -> Scan:
    """Read a scan: one path, or several of which each is one channel.

    Channels that lie on another grid than that of path number `reference` are resampled onto it. `volumes`
    chooses among those of a 4-D NIfTI (`nifti.read_nifti`).

    Raises:
        FileError: a file cannot be used, or the channels cannot be brought to one grid.
    """
    if isinstance(source, (str, Path)):
        return _read_one(Path(source), volumes)
    scans = {path: _read_one(Path(path), volumes) for path in dict.fromkeys(source)}  # a repeated file is read once
    return as_channels([scans[path] for path in source], reference)


def _read_one(path: Path, volumes: str | None) -> Scan:
    if path.is_dir():
        return _read_folder(path) if slice_files(path) else _read_dicom_folder(path)
    kind = kind_of(path)
    if kind == "nifti":
        from segkit.imaging.nifti import read_nifti

        return read_nifti(path, volumes)
    if kind in ("dicom", "zip"):
        from segkit.imaging.dicom.volume import read_dicom

        return read_dicom(path)
    if volumes is not None:
        raise FileError(path, "has no volumes to choose from", "--volume is for NIfTI")
    from segkit.imaging.image_file import read_image_file

    return read_image_file(path)


def _read_dicom_folder(folder: Path) -> Scan:
    """The FLAIR, or the only series, of the DICOM study in a folder."""
    from segkit.imaging.dicom.files import holds_dicom

    if not holds_dicom(folder):
        raise FileError(folder, "holds no TIFF or PNG slices, and no DICOM")
    from segkit.imaging.dicom.volume import read_dicom

    return read_dicom(folder)


def _read_folder(folder: Path) -> Scan:
    """A folder of single slices as one scan."""
    files = slice_files(folder)
    first = _read_one(files[0], None)
    if len(files) * max(first.pixels.nbytes, 4 * first.pixels.size) > MAX_BYTES:
        raise FileError(folder, f"holds {len(files)} slices, more than is read at once", "split it")
    pixels = np.empty((len(files), *first.pixels.shape[1:]), first.pixels.dtype)
    for index, file in enumerate(files):
        scan = first if index == 0 else _read_one(file, None)
        if len(scan.pixels) != 1:
            raise FileError(
                file,
                f"has {len(scan.pixels)} pages, so the folder is not one scan",
                "segment the files, not the folder",
            )
        if scan.pixels.shape[1:] != pixels.shape[1:] or scan.pixels.dtype != pixels.dtype:
            reason = f"is {_describe(scan)}, but {files[0].name} is {_describe(first)}"
            raise FileError(file, reason, "segment the files, not the folder")
        pixels[index] = scan.pixels[0]
    return Scan(pixels, None, None, first.channels, folder, "folder")


def as_channels(scans: Sequence[Scan], reference: int = 0) -> Scan:
    """Scans of one channel each as the channels of one scan, on the grid of `scans[reference]`.

    Raises:
        FileError: a scan of several channels; grids that differ where one has no place in space; too large.
    """
    first = scans[reference]
    if sum(4 * first.pixels.size for _ in scans) > MAX_BYTES:
        raise SegkitError(f"{first.source}: {len(scans)} such channels are more than is read at once; crop them")
    channels: list[NDArray[Any]] = []
    notes: list[str] = []
    for scan in scans:
        if len(scan.channels) != 1:
            raise FileError(scan.source, f"has {len(scan.channels)} channels where one file a channel is expected")
        channels.append(scan.pixels if same_grid(scan, first) else _moved(scan, first, notes))
        notes.extend(note for note in scan.notes if note not in notes)
    dtype = np.result_type(*channels)
    if dtype.itemsize > 4:  # what mixed types meet in; no scanner measures more than a float32 holds
        dtype = np.dtype(np.float32)
    pixels = np.concatenate(channels, axis=-1, dtype=dtype, casting="same_kind" if dtype.kind == "f" else "safe")
    return replace(first, pixels=pixels, channels=tuple(scan.source.name for scan in scans), notes=tuple(notes))


def same_grid(scan: Scan, other: Scan) -> bool:
    """Whether the voxels of both are in the same places, to a hundredth of a millimetre."""
    if scan.shape != other.shape:
        return False
    one, two = scan.display_affine, other.display_affine
    if one is None or two is None:
        return one is two
    return largest_shift(one, two, scan.shape) < SAME_PLACE


def _moved(scan: Scan, onto: Scan, notes: list[str]) -> NDArray[Any]:
    """The pixels of `scan` resampled onto the grid of another."""
    if scan.display_affine is None or onto.display_affine is None:
        raise FileError(
            scan.source, f"is {_describe(scan)}, but {onto.source.name} is {_describe(onto)}", "resample it"
        )
    from segkit.imaging.resample import resample

    pixels, share = resample(scan, onto)
    notes.append(f"{scan.source}: is resampled onto the grid of {onto.source.name}, of which it covers {share:.0%}")
    return pixels


def _describe(scan: Scan) -> str:
    slices, height, width = scan.shape
    return f"{width} x {height} x {slices}, {scan.pixels.shape[-1]} channels of {scan.pixels.dtype}"
