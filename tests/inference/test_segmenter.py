from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from threshold_model import expected_classes, threshold_metadata, write_threshold_model

from segkit.errors import ConfigError, FileError
from segkit.imaging.scan import Scan
from segkit.imaging.window import to_uint8
from segkit.inference.segmenter import Segmenter
from segkit.inference.session import Model

NAMES = {1: ("grey",), 2: ("a", "b"), 3: ("red", "green", "blue"), 4: ("red", "green", "blue", "alpha")}


def scan_of(pixels: np.ndarray, kind: str = "tiff") -> Scan:
    return Scan(pixels, None, None, NAMES[pixels.shape[-1]], Path("scan.tif"), kind)


def segmenter(tmp_path: Path, batch: int | None = None, channel: int = 0, **metadata: object) -> Segmenter:
    path = write_threshold_model(tmp_path / "model.onnx", threshold_metadata(**metadata), channel=channel)
    return Segmenter(Model.load(path, "cpu"), batch)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize("batch", [None, 1, 2, 5, 100])
@pytest.mark.parametrize("classes", [2, 3])
def test_the_training_size(tmp_path: Path, batch: int | None, classes: int) -> None:
    pixels = noise(5, 64, 64, 3)
    result = segmenter(tmp_path, batch, channel=2, classes=classes).segment(scan_of(pixels))
    np.testing.assert_array_equal(result.mask, expected_classes(pixels[..., 2], classes))
    assert result.mask.dtype == np.uint8


@pytest.mark.parametrize("size", [(40, 51), (64, 64), (100, 33), (1, 1), (130, 131)])
def test_padding_changes_no_pixel(tmp_path: Path, size: tuple[int, int]) -> None:
    pixels = noise(3, *size, 3)
    result = segmenter(tmp_path, fit="pad").segment(scan_of(pixels))
    np.testing.assert_array_equal(result.mask, expected_classes(pixels[..., 0]))


@pytest.mark.parametrize("size", [(32, 32), (128, 128), (37, 90), (200, 64)])
@pytest.mark.parametrize("classes", [2, 3])
def test_scaling_is_mapped_back(tmp_path: Path, size: tuple[int, int], classes: int) -> None:
    rows, columns = np.mgrid[: size[0], : size[1]]
    distance = np.hypot((rows - size[0] * 0.4) / size[0], (columns - size[1] * 0.6) / size[1])
    pixels = np.clip(255 - distance * 500, 0, 255).astype(np.uint8)[None, ..., None]
    result = segmenter(tmp_path, channels=1, classes=classes).segment(scan_of(pixels))
    assert result.mask.shape == (1, *size)
    assert np.mean(result.mask != expected_classes(pixels[..., 0], classes)) < 0.03


def test_other_types_are_windowed(tmp_path: Path) -> None:
    pixels = noise(2, 64, 64, 1).astype(np.int16) * 100 - 3000
    result = segmenter(tmp_path, channels=1).segment(scan_of(pixels))
    np.testing.assert_array_equal(result.mask, expected_classes(to_uint8(pixels)[..., 0]))


def test_8_bits_are_windowed_in_nifti_only(tmp_path: Path) -> None:
    pixels = noise(2, 64, 64, 1) // 4
    model = segmenter(tmp_path, channels=1)
    assert not model.segment(scan_of(pixels)).mask.any()
    assert model.segment(scan_of(pixels, kind="nifti")).mask.mean() > 0.3


def test_grey_is_repeated_and_alpha_left_out(tmp_path: Path) -> None:
    model = segmenter(tmp_path, channel=2)
    grey, colour = noise(1, 64, 64, 1), noise(1, 64, 64, 4)
    repeated, given = model.segment(scan_of(grey)), model.segment(scan_of(colour))
    np.testing.assert_array_equal(repeated.mask, expected_classes(grey[..., 0]))
    np.testing.assert_array_equal(given.mask, expected_classes(colour[..., 2]))
    assert repeated.notes == ("its one channel stands in for all 3 of the model (c0, c1, c2)",)
    assert given.notes == ()
    one = replace(scan_of(colour[..., :2]), channels=("grey", "alpha"))
    assert model.segment(one).notes == repeated.notes


def test_colour_for_a_grey_model(tmp_path: Path) -> None:
    model = segmenter(tmp_path, channels=1)
    grey = noise(1, 64, 64, 1)
    same = np.repeat(grey, 3, axis=-1)
    np.testing.assert_array_equal(model.segment(scan_of(same)).mask, expected_classes(grey[..., 0]))
    assert model.segment(scan_of(grey)).notes == ()
    with pytest.raises(FileError, match="has 3 channels, the model takes 1"):
        model.segment(scan_of(noise(1, 64, 64, 3)))


def test_channel_counts_are_both_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="has 2 channels, the model takes 3"):
        segmenter(tmp_path).segment(scan_of(noise(1, 64, 64, 2)))


def test_a_slice_beyond_memory_is_refused(tmp_path: Path) -> None:
    pixels = np.zeros((1, 3000, 3000, 3), np.uint8)
    with pytest.raises(FileError, match="3000 x 3000, which are too large"):
        segmenter(tmp_path, fit="pad").segment(scan_of(pixels))
    assert segmenter(tmp_path, fit="scale").segment(scan_of(pixels)).mask.shape == (1, 3000, 3000)


def test_a_batch_of_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="batch = 0"):
        segmenter(tmp_path, 0)
