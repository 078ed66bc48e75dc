from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segkit.imaging.overlay import COLOURS, MAX_TILES, choose_slices, draw_overlay, write_overlay

CLASSES = ("background", "tumour", "edema")


def test_the_outline_and_the_fill_are_where_the_mask_is() -> None:
    image = np.full((1, 600, 600, 1), 100, np.uint8)
    mask = np.zeros((1, 600, 600), np.uint8)
    mask[0, 50:90, 100:180] = 2
    picture = np.asarray(draw_overlay(image, mask, CLASSES))[:600]
    assert tuple(picture[50, 120]) == COLOURS[1]
    assert tuple(picture[89, 179]) == COLOURS[1]
    assert tuple(picture[49, 120]) == (100, 100, 100)
    blend = [round(0.7 * 100 + 0.3 * value) for value in COLOURS[1]]
    np.testing.assert_allclose(picture[70, 150], blend, atol=1)


def test_a_slice_of_other_size_is_made_readable() -> None:
    def width(side: int, slices: int = 1) -> int:
        image = np.zeros((slices, side, side, 3), np.uint8)
        return draw_overlay(image, np.zeros((slices, side, side), np.uint8), CLASSES).width

    assert width(1) == 512
    assert width(100) == 600
    assert width(100, slices=2) == 604
    assert width(700) == 700
    assert width(5000) == 1024
    assert 1000 < width(2000, slices=9) < 1200


def test_proportions_are_those_of_the_body() -> None:
    image = np.zeros((1, 300, 300, 1), np.uint8)
    picture = draw_overlay(image, np.zeros((1, 300, 300), np.uint8), CLASSES, spacing=(5.0, 2.0, 1.0))
    assert picture.width == 300
    assert picture.height > 600


def test_the_slices_with_most_mask_are_shown_in_order() -> None:
    mask = np.zeros((40, 30, 30), np.uint8)
    for index in range(5, 35):
        mask[index, : index - 4, 0] = 1
    assert choose_slices(mask) == list(range(35 - MAX_TILES, 35))
    assert choose_slices(mask * 0)[0] == 0
    assert len(choose_slices(mask * 0)) == MAX_TILES


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_any_number_of_channels(tmp_path: Path, channels: int) -> None:
    image = np.zeros((2, 20, 30, channels), np.uint8)
    write_overlay(tmp_path / "o.png", image, np.ones((2, 20, 30), np.uint8), CLASSES)
    assert Image.open(tmp_path / "o.png").mode == "RGB"
