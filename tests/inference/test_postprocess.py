from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segkit.errors import ConfigError
from segkit.imaging.scan import Scan
from segkit.inference.postprocess import LesionSize, components, largest_component, measure


@pytest.fixture
def mask() -> np.ndarray:
    """Class 1: 8 voxels over two slices and 1 apart. Class 2: 3 that touch the first, and 2 apart."""
    mask = np.zeros((4, 10, 10), np.uint8)
    mask[0:2, 0:2, 0:2] = 1
    mask[3, 9, 9] = 1
    mask[0, 2, 0:3] = 2
    mask[3, 5, 5] = mask[2, 4, 4] = 2  # these touch at a corner
    return mask


def scan(mask: np.ndarray, spacing: tuple[float, float, float] | None) -> Scan:
    return Scan(mask[..., None], spacing, None, ("grey",), Path("scan.nii"), "nifti")


def test_components_are_of_one_class(mask: np.ndarray) -> None:
    found = components(mask)
    of_class = [sorted(found.sizes[found.classes == index].tolist()) for index in (1, 2)]
    assert of_class == [[1, 8], [2, 3]]
    assert found.sizes.sum() == mask.size


def test_the_largest_of_each_class_stays(mask: np.ndarray) -> None:
    expected = mask.copy()
    expected[3] = 0
    expected[2, 4, 4] = 0
    np.testing.assert_array_equal(largest_component(mask), expected)
    assert not largest_component(mask * 0).any()


@pytest.mark.parametrize(
    ("least", "left"),
    [
        ("0", [9, 5]),
        ("1", [9, 5]),
        ("3", [8, 3]),
        ("2.5", [8, 3]),  # no lesion has half a voxel
        ("66.6%", [8, 5]),  # 2 of 3 are 66.67 %
        ("66.7 %", [8, 3]),
        ("100%", [8, 3]),
        ("0.024 ml", [8, 3]),  # a voxel has 0.008 ml
        ("0.0241ML", [8, 0]),
    ],
)
def test_small_ones_go(mask: np.ndarray, least: str, left: list[int]) -> None:
    kept = LesionSize.parse(least).apply(mask, scan(mask, (2.0, 2.0, 2.0)))
    assert np.bincount(kept.ravel(), minlength=3).tolist()[1:] == left
    assert not (kept & ~mask).any()


def test_a_share_of_nothing_is_nothing(mask: np.ndarray) -> None:
    assert not LesionSize.parse("10%").apply(mask * 0, scan(mask, None)).any()


def test_millilitres_need_a_spacing(mask: np.ndarray) -> None:
    with pytest.raises(ConfigError, match=r"min_lesion = '0\.1ml"):
        LesionSize.parse("0.1ml").apply(mask, scan(mask, None))


@pytest.mark.parametrize("text", ["", "ml", "-1", "101%", "ten", "nan", "inf", "1e9.5", "5l"])
def test_a_size_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="min_lesion"):
        LesionSize.parse(text)


@pytest.mark.parametrize("text", ["0", "30", "0.1ml", "10%"])
def test_a_size_reads_what_it_writes(text: str) -> None:
    assert str(LesionSize.parse(text)) == text


def test_measures(mask: np.ndarray) -> None:
    result = measure(mask, scan(mask, (5.0, 0.5, 2.0)), ("background", "core", "edema", "absent"))
    assert result["core"] == {
        "pixels": 9,
        "ml": 0.045,
        "components": 2,
        "largest_component_pixels": 8,
        "longest_diameter_mm": 10.21,
        "lesions": [
            {
                "pixels": 8,
                "ml": 0.04,
                "longest_diameter_mm": 10.21,
                "longest_diameter_in_slice_mm": 4.03,
                "slices": [0, 1],
                "centre": [0.5, 0.5, 0.5],
                "centre_mm": None,
            },
            {
                "pixels": 1,
                "ml": 0.005,
                "longest_diameter_mm": 5.0,
                "longest_diameter_in_slice_mm": 2.0,
                "slices": [3, 3],
                "centre": [3.0, 9.0, 9.0],
                "centre_mm": None,
            },
        ],
        "slices": [
            {"slice": 0, "pixels": 4, "mm2": 4.0},
            {"slice": 1, "pixels": 4, "mm2": 4.0},
            {"slice": 3, "pixels": 1, "mm2": 1.0},
        ],
    }
    assert (result["absent"]["pixels"], result["absent"]["components"], result["absent"]["slices"]) == (
        0,
        0,
        [],
    )


def test_without_spacing_there_are_no_millimetres(mask: np.ndarray) -> None:
    result = measure(mask, scan(mask, None), ("background", "core", "edema"))
    assert result["edema"]["ml"] is None
    assert result["edema"]["slices"][0] == {"slice": 0, "pixels": 3, "mm2": None}
