"""One door for every scan: a file, a folder of slices, or several files as channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from segkit.errors import FileError, SegkitError
from segkit.imaging.naming import slice_files
from segkit.imaging.scan import MAX_BYTES, Scan
from segkit.imaging.sniff import kind_of


def read_scan(source: Path | str | Sequence[Path | str]) -> Scan:
    """Read a scan: one path, or several of which each is one channel.

    Raises:
        FileError: a file cannot be used, or the channels do not lie on one grid.
    """
    if isinstance(source, (str, Path)):
        return _read_one(Path(source))
    scans = {path: _read_one(Path(path)) for path in dict.fromkeys(source)}  # a repeated file is read once
    return _as_channels([scans[path] for path in source])


def _read_one(path: Path) -> Scan:
    if path.is_dir():
        return _read_folder(path)
    if kind_of(path) == "nifti":
        from segkit.imaging.nifti import read_nifti

        return read_nifti(path)
    from segkit.imaging.image_file import read_image_file

    return read_image_file(path)


def _read_folder(folder: Path) -> Scan:
    """A folder of single slices as one scan."""
    files = slice_files(folder)
    if not files:
        raise FileError(folder, "holds no TIFF or PNG slices")
    first = _read_one(files[0])
    if len(files) * max(first.pixels.nbytes, 4 * first.pixels.size) > MAX_BYTES:
        raise FileError(folder, f"holds {len(files)} slices, more than is read at once", "split it")
    pixels = np.empty((len(files), *first.pixels.shape[1:]), first.pixels.dtype)
    for index, file in enumerate(files):
        scan = first if index == 0 else _read_one(file)
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


def _as_channels(scans: list[Scan]) -> Scan:
    """Scans of one channel each as the channels of one scan, which keeps the geometry of the first."""
    first = scans[0]
    for scan in scans:
        if len(scan.channels) != 1:
            raise FileError(scan.source, f"has {len(scan.channels)} channels where one file a channel is expected")
        if scan.shape != first.shape:
            raise FileError(
                scan.source,
                f"is {_describe(scan)}, but {first.source.name} is {_describe(first)}",
                "resample it",
            )
        if not _same_grid(scan, first):
            raise FileError(scan.source, f"lies elsewhere than {first.source.name}", "register and resample it")
    if sum(max(scan.pixels.nbytes, 4 * scan.pixels.size) for scan in scans) > MAX_BYTES:
        raise SegkitError(f"{first.source}: {len(scans)} such channels are more than is read at once; crop them")
    pixels = np.concatenate([scan.pixels for scan in scans], axis=-1)
    return replace(first, pixels=pixels, channels=tuple(scan.source.name for scan in scans))


def _same_grid(scan: Scan, other: Scan) -> bool:
    if scan.affine is None or other.affine is None:
        return scan.affine is other.affine
    # A hundredth of a millimetre: scanners and converters round the affine at about the fifth digit.
    return bool(np.allclose(scan.affine, other.affine, rtol=0, atol=0.01))


def _describe(scan: Scan) -> str:
    slices, height, width = scan.shape
    return f"{width} x {height} x {slices}, {scan.pixels.shape[-1]} channels of {scan.pixels.dtype}"
