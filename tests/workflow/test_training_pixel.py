from __future__ import annotations

import pytest

from segkit.data.cases import Case
from segkit.data.survey import Frame
from segkit.model_metadata import ModelMetadata
from segkit.workflow.describe import training_pixel


def case(shape: tuple[int, int], *pixel: float) -> Case:
    return Case("p", "", (), shape, (3.0, *pixel) if pixel else None)


def test_the_pixel_that_the_net_sees() -> None:
    pad, scale = Frame((64, 64), "pad"), Frame((64, 64), "scale")
    assert training_pixel([case((40, 50), 1.0, 1.0), case((30, 60), 1.02, 1.0)], pad) == pytest.approx((1.01, 1.0))
    assert training_pixel([case((128, 128), 0.5, 0.5)], scale) == (1.0, 1.0)  # shrunk to half
    assert training_pixel([case((64, 64), 0.5, 2.0)], scale) == (0.5, 2.0)


def test_mixed_or_unknown_pixels_are_none() -> None:
    pad = Frame((64, 64), "pad")
    assert training_pixel([case((40, 50), 1.0, 1.0), case((40, 50), 1.5, 1.5)], pad) is None
    assert training_pixel([case((40, 50), 1.0, 1.0), case((40, 50))], pad) is None


def test_it_travels_with_the_model() -> None:
    metadata = ModelMetadata("unet", 8, ("a", "b"), ("c",), (64, 64), "pad", (0, 1), pixel_mm=(0.9, 0.8), plane="axial")
    assert ModelMetadata.from_props(metadata.to_props()) == metadata
    old = {key: text for key, text in metadata.to_props().items() if "pixel" not in key and "plane" not in key}
    assert ModelMetadata.from_props(old).pixel_mm is None
