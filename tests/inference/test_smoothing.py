from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d
from threshold_model import threshold_metadata, write_threshold_model

from segkit.errors import ConfigError
from segkit.imaging.scan import Scan
from segkit.inference.segmenter import Segmenter, Slicing
from segkit.inference.session import Model
from segkit.inference.smoothing import smoothed

PLANES = np.random.default_rng(0).random((9, 2, 4, 5)).astype(np.float32)


def reference(planes: np.ndarray, sigma: float) -> np.ndarray:
    """SciPy's Gaussian of the same reach, divided by that of ones, so that ends count what is there."""
    radius = max(1, int(np.ceil(3 * sigma)))
    wide = {"sigma": sigma, "axis": 0, "mode": "constant", "radius": radius}
    return gaussian_filter1d(planes.astype(float), **wide) / gaussian_filter1d(np.ones(planes.shape), **wide)


@pytest.mark.parametrize("count", [1, 2, 9])
@pytest.mark.parametrize("sigma", [0.4, 0.7, 1.0, 2.5])
def test_it_is_a_gaussian_along_the_slices(sigma: float, count: int) -> None:
    got = np.stack(list(smoothed(iter(PLANES[:count]), sigma)))
    np.testing.assert_allclose(got, reference(PLANES[:count], sigma), rtol=1e-5)


def test_none_is_the_planes_themselves() -> None:
    planes = list(PLANES)
    assert all(one is other for one, other in zip(smoothed(planes, 0), planes, strict=True))


def test_a_lone_slice_goes_and_a_gap_is_closed(tmp_path: Path) -> None:
    path = write_threshold_model(tmp_path / "m.onnx", threshold_metadata(channels=1, fit="pad"))
    segmenter = Segmenter(Model.load(path, "cpu"))
    pixels = np.zeros((12, 40, 40, 1), np.uint8)
    pixels[[4, 5, 7, 8], 5:20, 5:20] = 255  # slice 6 is missed
    pixels[11, 30:35, 30:35] = pixels[1, 30:35, 30:35] = 255  # one slice only
    scan = Scan(pixels, None, None, ("grey",), Path("scan.tif"), "tiff")
    plain = segmenter.segment(scan).mask
    smooth = segmenter.segment(scan, Slicing(smooth=1.0)).mask
    assert not plain[6].any()
    assert smooth[6, 10, 10] == 1
    assert plain[1].any()
    assert not smooth[1].any()


@pytest.mark.parametrize(
    "settings", [{"smooth": -1}, {"smooth": 99}, {"threshold": 0}, {"threshold": 1.0}, {"plane": "up"}, {"pixel_mm": 0}]
)
def test_bad_settings_are_refused(settings: dict) -> None:
    with pytest.raises(ConfigError):
        Slicing(**settings)
