"""The models that come with the package: whole, described, and deciding as they did when they were published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segkit.inference.catalogue import PACKAGED, Installed, find_installed, installed
from segkit.inference.session import Model
from segkit.model_metadata import ModelMetadata

CASE = Path(__file__).parent / "pretrained_case"  # one slice of a phantom, its reference, and each model's mask
MODELS = [model for model in installed() if model.packaged]


def pixels(name: str) -> np.ndarray:
    with Image.open(CASE / name) as image:
        return np.asarray(image)


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return float(2 * np.count_nonzero(first & second) / (np.count_nonzero(first) + np.count_nonzero(second)))


def test_there_is_a_default_and_all_fit_in_a_wheel() -> None:
    for device in ("cpu", "cuda"):
        default = find_installed(None, device)
        assert default is not None
        assert default.packaged
    assert sum(path.stat().st_size for path in PACKAGED.iterdir()) < 25e6


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_each_is_whole_and_says_what_it_is(model: Installed) -> None:
    metadata: ModelMetadata = Model.load(model.checked(), "cpu").metadata
    assert metadata.channels == ("pre", "FLAIR", "post")
    assert metadata.licence
    card = model.card.read_text(encoding="utf-8")
    for said in (model.sha256, metadata.split_sha256, metadata.run_id, "CC BY-NC-SA", "Not a medical device"):
        assert said in card


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_each_decides_as_when_it_was_published(model: Installed) -> None:
    """On other processors integers round alike and floats nearly so: a thousandth of the pixels may differ."""
    found = Model.load(model.path, "cpu").masks(pixels("scan.png")[None])[0] > 0
    expected = pixels(f"{model.name}_mask.png") > 0
    assert np.count_nonzero(found != expected) < 0.001 * found.size
    assert dice(found, pixels("reference.png") > 0) > 0.5  # it has never seen a phantom
