from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from threshold_model import threshold_metadata

from segkit.errors import ConfigError
from segkit.imaging.scan import Scan
from segkit.inference.postprocess import LesionSize
from segkit.inference.segmenter import Segmenter, Slicing
from segkit.inference.volume_rule import VolumeRule
from segkit.model_metadata import ModelMetadata

PLAIN = threshold_metadata(channels=1, size=(32, 64), fit="pad")
RULE = replace(PLAIN, flip=True, smooth=0.8, threshold=0.3, min_lesion="10%")


class Ramp:
    """A model that takes the grey for the probability of a tumour, more so on the right: a mirror changes it."""

    def __init__(self, metadata: ModelMetadata) -> None:
        self.metadata, self.path, self.device = metadata, Path("ramp.onnx"), "cpu"

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        tumour = images[..., 0] / np.float32(255) * np.linspace(0.2, 1, images.shape[2], dtype=np.float32)
        return np.stack([1 - tumour, tumour], axis=1)

    def masks(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return self.probabilities(images).argmax(axis=1).astype(np.uint8)


def volume(slices: int, height: int = 32, width: int = 64) -> Scan:
    """Blobs of several sizes."""
    noise = np.random.default_rng(3).normal(size=(slices, height, width))
    smooth = ndimage.gaussian_filter(noise, (1, 2, 2), mode="wrap")
    grey = np.clip(255 * (0.25 + smooth / smooth.std() / 4), 0, 255).astype(np.uint8)
    return Scan(grey[..., None], None, None, ("grey",), Path("scan.tif"), "tiff")


def by_hand(scan: Scan) -> NDArray[np.uint8]:
    """What RULE says, by SciPy."""
    grey = scan.pixels[..., 0] / 255
    ramp = np.linspace(0.2, 1, grey.shape[2])
    mean = grey * (ramp + ramp[::-1]) / 2  # the mirrored slice, mirrored back
    wide = {"sigma": 0.8, "axis": 0, "mode": "constant", "radius": 3}
    smooth = ndimage.gaussian_filter1d(mean, **wide) / ndimage.gaussian_filter1d(np.ones_like(mean), **wide)
    labels, count = ndimage.label(smooth > 0.3, np.ones((3, 3, 3)))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    kept = sizes >= sizes[1:].max() / 10
    kept[0] = False
    assert 1 < kept.sum() < count  # or this would test nothing
    return kept[labels].astype(np.uint8)


def test_a_models_own_rule_counts_in_a_volume() -> None:
    scan = volume(12)
    result = Segmenter(Ramp(RULE)).segment(scan)
    np.testing.assert_array_equal(result.mask, by_hand(scan))
    assert result.rule == VolumeRule(True, 0.8, 0.3, LesionSize(10, "%"))


def test_what_the_user_sets_lies_over_it() -> None:
    scan = volume(12)
    set_by_hand = Slicing(flip=True, smooth=0.8, threshold=0.3, min_lesion=LesionSize(10, "%"))
    np.testing.assert_array_equal(Segmenter(Ramp(PLAIN)).segment(scan, set_by_hand).mask, by_hand(scan))
    other = Segmenter(Ramp(RULE)).segment(scan, Slicing(threshold=0.6))
    assert other.rule == VolumeRule(True, 0.8, 0.6, LesionSize(10, "%"))
    assert other.mask.sum() < by_hand(scan).sum()


@pytest.mark.parametrize("slicing", [Slicing(by_slice=True), Slicing()])
def test_each_slice_for_itself_or_alone(slicing: Slicing) -> None:
    scan = volume(12 if slicing.by_slice else 1)
    result = Segmenter(Ramp(RULE)).segment(scan, slicing)
    np.testing.assert_array_equal(result.mask, Ramp(PLAIN).masks(scan.pixels))
    assert result.rule == VolumeRule()


def test_it_is_the_same_on_slices_that_are_resampled() -> None:
    """The grid of the scan is 3 times finer: smoothing before or after the fit is undone is one thing."""
    scan = volume(9, 96, 192)
    metadata = replace(PLAIN, fit="scale", smooth=0.8, threshold=0.4)
    mask = Segmenter(Ramp(metadata)).segment(scan).mask
    said = np.stack(list(Segmenter(Ramp(metadata)).probabilities(scan, Slicing())))
    assert said.shape == (9, 2, 96, 192)
    smooth = ndimage.gaussian_filter1d(said[:, 1].astype(float), 0.8, axis=0, mode="constant", radius=3)
    weight = ndimage.gaussian_filter1d(np.ones(9), 0.8, mode="constant", radius=3)[:, None, None]
    differs = mask != (smooth / weight > 0.4)
    assert differs.mean() < 1e-4  # rounding at the threshold itself
    small = np.stack([np.asarray(Image.fromarray(one).resize((64, 32), Image.BILINEAR)) for one in scan.pixels[..., 0]])
    assert abs(said[:, 1].mean() - Ramp(PLAIN).probabilities(small[..., None])[:, 1].mean()) < 0.005


def test_of_several_classes_the_most_probable_counts_where_it_is_no_background() -> None:
    probability = np.array([[0.65, 0.75, 0.4], [0.20, 0.15, 0.35], [0.15, 0.10, 0.25]], np.float32)
    assert VolumeRule(threshold=0.3).decide(probability).tolist() == [1, 0, 1]
    assert VolumeRule().decide(probability).tolist() == [0, 0, 0]


def test_a_rule_goes_through_the_metadata() -> None:
    rule = VolumeRule(True, 0.8, 0.3, LesionSize(10, "%"))
    props = replace(PLAIN, **rule.as_metadata()).to_props()
    assert VolumeRule.of(ModelMetadata.from_props(props)) == rule
    old = {key: text for key, text in props.items() if not key.endswith(("flip", "smooth", "threshold", "min_lesion"))}
    assert VolumeRule.of(ModelMetadata.from_props(old)) == VolumeRule()


def test_a_rule_is_said_in_words() -> None:
    assert str(VolumeRule()) == "each slice for itself"
    assert str(VolumeRule(flip=True, smooth=0.8)) == "mean with the mirrored slice, smoothed over 0.8 slices"
    rule = VolumeRule(threshold=0.3, min_lesion=LesionSize(10, "%"))
    assert str(rule) == "probability over 0.3, no lesion under 10 % of the largest"


def test_a_model_with_a_rule_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="smooth"):
        Segmenter(Ramp(replace(PLAIN, smooth=-1.0))).segment(volume(3))
