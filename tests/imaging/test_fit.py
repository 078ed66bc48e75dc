from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from segkit.errors import ConfigError
from segkit.imaging.fit import fit_image, fit_mask, place, unfit_mask, unfit_probability


def test_equal_sizes_are_left_alone() -> None:
    placement = place((256, 256), (256, 256), "scale")
    image = np.zeros((2, 256, 256, 3), np.uint8)
    assert placement.is_identity
    assert fit_image(image, placement) is image


@pytest.mark.parametrize(
    ("source", "size", "scaled", "offset"),
    [
        ((128, 128), (256, 256), (256, 256), (0, 0)),
        ((512, 256), (256, 256), (256, 128), (0, 64)),
        ((100, 300), (256, 256), (85, 256), (85, 0)),
        ((1, 1), (64, 96), (64, 64), (0, 16)),
        ((1, 3000), (64, 64), (1, 64), (31, 0)),
    ],
)
def test_scale_keeps_the_aspect(source, size, scaled, offset) -> None:
    placement = place(source, size, "scale")
    assert (placement.canvas, placement.scaled, placement.offset) == (size, scaled, offset)


@pytest.mark.parametrize(
    ("source", "canvas", "offset"),
    [
        ((40, 50), (64, 64), (12, 7)),
        ((64, 64), (64, 64), (0, 0)),
        ((100, 40), (100, 64), (0, 12)),
        ((101, 99), (101, 99), (0, 0)),
    ],
)
def test_pad_keeps_the_resolution(source, canvas, offset) -> None:
    placement = place(source, (64, 64), "pad")
    assert (placement.canvas, placement.scaled, placement.offset) == (canvas, source, offset)


def test_no_canvas_is_smaller_than_a_net_can_take() -> None:
    assert place((8, 8), (16, 16), "pad").canvas == (32, 32)


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ConfigError, match="scale or pad"):
        place((8, 8), (16, 16), "stretch")


@pytest.mark.parametrize("source", [(1, 1), (40, 51), (64, 64), (90, 33)])
def test_pad_comes_back_bit_for_bit(source) -> None:
    mask = np.random.default_rng(0).integers(0, 3, (2, *source)).astype(np.uint8)
    placement = place(source, (64, 64), "pad")
    fitted = fit_mask(mask, placement)
    assert fitted.shape == (2, *placement.canvas)
    assert fitted.sum() == mask.sum()  # zeros around it
    np.testing.assert_array_equal(unfit_mask(fitted, placement), mask)


def test_scaling_is_pillows() -> None:
    image = np.random.default_rng(0).integers(0, 256, (100, 80, 3)).astype(np.uint8)
    placement = place((100, 80), (50, 64), "scale")
    fitted = fit_image(image, placement)
    reference = np.asarray(Image.fromarray(image).resize((40, 50), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(fitted[:, 12:52], reference)
    assert not fitted[:, :12].any()
    assert not fitted[:, 52:].any()


def test_a_scaled_probability_comes_back_in_place() -> None:
    source = (37, 90)
    placement = place(source, (128, 128), "scale")
    rows, columns = np.mgrid[: source[0], : source[1]]
    disc = ((rows - 20) ** 2 + (columns - 60) ** 2 < 12**2).astype(np.uint8)
    fitted = fit_image(disc[..., None] * np.uint8(255), placement)[..., 0].astype(np.float32) / 255
    probability = np.stack([1 - fitted, fitted])[None]
    back = unfit_probability(probability, placement).argmax(axis=1)[0]
    assert back.shape == source
    assert np.count_nonzero(back != disc) <= 4  # a shift by half a pixel would change about 40


def test_a_batch_is_its_slices() -> None:
    images = np.random.default_rng(1).integers(0, 256, (3, 20, 30, 2)).astype(np.uint8)
    placement = place((20, 30), (64, 64), "scale")
    batch = fit_image(images, placement)
    for one, fitted in zip(images, batch, strict=True):
        np.testing.assert_array_equal(fit_image(one, placement), fitted)


def test_a_scaled_mask_invents_no_class() -> None:
    mask = np.zeros((10, 10), np.uint8)
    mask[:5] = 2
    assert set(np.unique(fit_mask(mask, place((10, 10), (64, 64), "scale")))) == {0, 2}


@pytest.mark.parametrize("mode", ["scale", "pad"])
def test_a_known_training_pixel_sets_the_resolution(mode: str) -> None:
    placed = place((320, 280), (256, 256), mode, pixel=(0.5, 0.75), target=(1.0, 1.0))
    assert (placed.scaled, placed.canvas, placed.offset) == ((160, 210), (256, 256), (48, 23))
    same = place((200, 220), (256, 256), mode, pixel=(1.004, 0.996), target=(1.0, 1.0))
    assert (same.scaled, same.is_scaled) == ((200, 220), False)
    larger = place((300, 300), (256, 256), mode, pixel=(2.0, 2.0), target=(1.0, 1.0))
    assert larger.canvas == larger.scaled == (600, 600)


def test_without_one_pixels_are_made_square() -> None:
    assert place((100, 200), (256, 256), "pad", pixel=(2.0, 1.0)).scaled == (200, 200)
    assert place((100, 200), (256, 256), "scale", pixel=(2.0, 1.0)).scaled == (256, 256)
    assert place((256, 256), (256, 256), "scale", pixel=(2.0, 1.0)).scaled == (256, 128)
    assert place((256, 256), (256, 256), "scale", pixel=(0.7, 0.7)).is_identity
    assert place((100, 200), (256, 256), "scale") == place((100, 200), (256, 256), "scale", pixel=(3.0, 3.0))


def test_the_field_of_view_survives_resampling() -> None:
    """A disc is a disc again after the way to another resolution and back."""
    rows, columns = np.mgrid[:120, :80]
    disc = np.hypot((rows - 50) * 0.5, (columns - 40) * 0.75) < 18
    placed = place((120, 80), (64, 64), "pad", pixel=(0.5, 0.75), target=(1.0, 1.0))
    fitted = fit_image((disc * np.uint8(255))[None, ..., None], placed)
    inner = np.argwhere(fitted[0, ..., 0] > 127)
    assert np.ptp(inner, axis=0) + 1 == pytest.approx([36, 36], abs=1.5)  # a circle, in millimetres
    back = unfit_probability((fitted[..., 0] / 255).astype(np.float32)[None], placed)[0, 0] > 0.5
    assert 2 * (back & disc).sum() / (back.sum() + disc.sum()) > 0.97
