from __future__ import annotations

import numpy as np
import pytest

from segkit.imaging.window import to_uint8


def volume(dtype: str = "float32") -> np.ndarray:
    """Foreground 100 to 1099 in equal shares on a background of 0."""
    pixels = np.zeros((3, 40, 50, 1), dtype)
    pixels[1, :20, :, 0] = (100 + np.arange(1000)).reshape(20, 50)
    return pixels


def test_picture_files_of_8_bits_are_display_values() -> None:
    pixels = np.arange(64, dtype=np.uint8).reshape(1, 8, 8, 1)
    assert to_uint8(pixels) is pixels
    assert to_uint8(pixels, keep_uint8=False).max() == 255


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "uint16", "int32", "int64", ">i2"])
def test_the_window_is_that_of_the_foreground(dtype: str) -> None:
    windowed = to_uint8(volume(dtype))[1, :20, :, 0].ravel()
    tissue = np.arange(100, 1100)
    tissue = tissue[tissue > 100 + 0.05 * (1094 - 100)]  # what is darker counts as air
    low, high = np.percentile(tissue, [0.5, 99.5])
    exact = np.clip((np.arange(100, 1100) - low) / (high - low) * 255, 0, 255)
    np.testing.assert_allclose(windowed, exact, atol=0.6)  # the two definitions of darker differ by a grain


def test_padding_and_empty_slices_change_nothing() -> None:
    pixels = volume()
    padded = np.pad(pixels, ((4, 4), (30, 30), (9, 9), (0, 0)))
    np.testing.assert_array_equal(to_uint8(padded)[4:7, 30:70, 9:59], to_uint8(pixels))


def test_the_background_may_be_negative() -> None:
    pixels = volume() - 1024
    np.testing.assert_array_equal(to_uint8(pixels), to_uint8(volume()))


def test_nan_and_infinity_are_no_intensities() -> None:
    pixels = volume()
    pixels[0, 0, :3, 0] = np.nan, np.inf, -np.inf
    windowed = to_uint8(pixels)
    np.testing.assert_array_equal(windowed[1:], to_uint8(volume())[1:])
    assert windowed[0, 0, :3, 0].tolist() == [0, 255, 0]


@pytest.mark.parametrize("value", [0, 7, -3.5, np.nan, np.inf])
def test_a_constant_volume_is_black(value: float) -> None:
    assert not to_uint8(np.full((2, 4, 4, 1), value, np.float32)).any()


def test_a_binary_volume_keeps_its_two_values() -> None:
    pixels = np.zeros((1, 4, 4, 1), np.int16)
    pixels[0, 1] = 1
    np.testing.assert_array_equal(to_uint8(pixels), pixels * 255)


def test_each_channel_has_its_own_window() -> None:
    two = np.concatenate([volume(), volume() * 1000], axis=-1)
    windowed = to_uint8(two)
    np.testing.assert_array_equal(windowed[..., 0], windowed[..., 1])


def test_the_largest_floats_do_not_overflow() -> None:
    pixels = np.zeros((1, 2, 2, 1), np.float64)
    pixels[0, 0, :, 0] = -1e308, 1e308
    assert set(np.unique(to_uint8(pixels))) <= {0, 255, 128, 127}


@pytest.mark.parametrize("value", [0, -2000, 300, 4000])
def test_padding_of_any_one_value_changes_nothing(value: int) -> None:
    pixels = volume("int16") + np.int16(100)
    padded = np.pad(pixels, ((4, 4), (30, 30), (9, 9), (0, 0)), constant_values=value)
    inner = to_uint8(padded)[4:7, 30:70, 9:59]
    np.testing.assert_array_equal(inner[1, :20], to_uint8(pixels)[1, :20])


def brain(air_slices: int) -> np.ndarray:
    """Tissue of 300 to 900 in noise of up to 20, with slices of nothing but noise above and below."""
    random = np.random.default_rng(0)
    pixels = random.integers(300, 900, (10, 40, 50, 1)).astype(np.int16)
    pixels[:, :8] = random.integers(0, 20, (10, 8, 50, 1))
    air = random.integers(0, 20, (2 * air_slices, 40, 50, 1)).astype(np.int16)
    return np.concatenate([air[:air_slices], pixels, air[air_slices:]])


@pytest.mark.parametrize("air_slices", [1, 10, 60])
def test_slices_of_nothing_but_noise_change_nothing(air_slices: int) -> None:
    wanted = to_uint8(brain(0))
    got = to_uint8(brain(air_slices))[air_slices:-air_slices]
    np.testing.assert_array_equal(got[:, 8:], wanted[:, 8:])


def test_large_volumes_are_sampled_alike_with_and_without_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segkit.imaging.window._MAX_SAMPLE", 100)
    pixels = volume()
    padded = np.pad(pixels, ((4, 4), (30, 30), (9, 9), (0, 0)))
    np.testing.assert_array_equal(to_uint8(padded)[4:7, 30:70, 9:59], to_uint8(pixels))
