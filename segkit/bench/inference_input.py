"""What an exported model is timed on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segkit.errors import FileError
from segkit.imaging.read import read_scan
from segkit.imaging.window import scan_to_uint8
from segkit.inference.session import Model


def images_for(model: Path, scan: Path | None) -> NDArray[np.uint8]:
    """uint8 [N, H, W, C]: the slices of a scan, else noise of the size that the model was trained on.

    Raises:
        FileError: no model of segkit's, no scan, or one of other channels than the model's.
    """
    metadata = Model.load(model, "cpu").metadata
    if scan is None:
        shape = (1, *metadata.size, len(metadata.channels))
        return np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    pixels = scan_to_uint8(read_scan(scan))
    if pixels.shape[3] != len(metadata.channels):
        what = f"has {pixels.shape[3]} channels, the model takes {len(metadata.channels)}"
        raise FileError(scan, what, "give a scan like those that the model was trained on")
    return pixels
