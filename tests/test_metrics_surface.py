"""HD95 by hand, against brute force, and against distance maps of scipy.ndimage."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import ndimage

from segkit.metrics import ConfusionTable, class_hd95, hd95, slice_confusions, summarise

Spacing = tuple[float, float, float]


def brute_force(prediction: np.ndarray, reference: np.ndarray, spacing: Spacing) -> float:
    """Every surface voxel against every other, in plain loops."""
    ours, theirs = surface(prediction, spacing), surface(reference, spacing)
    there = [min(math.dist(a, b) for b in theirs) for a in ours]
    back = [min(math.dist(a, b) for a in ours) for b in theirs]
    return float(np.percentile(there + back, 95))


def surface(mask: np.ndarray, spacing: Spacing) -> list[tuple[float, ...]]:
    sides = list(itertools.product(range(3), (-1, 1)))
    return [
        tuple(i * mm for i, mm in zip(at, spacing, strict=True))
        for at in itertools.product(*map(range, mask.shape))
        if mask[at] and not all(holds(mask, at, axis, step) for axis, step in sides)
    ]


def holds(mask: np.ndarray, at: tuple[int, ...], axis: int, step: int) -> bool:
    """Whether the neighbour is in the mask; a one-voxel axis has no outside."""
    if mask.shape[axis] == 1:
        return True
    near = list(at)
    near[axis] += step
    return 0 <= near[axis] < mask.shape[axis] and bool(mask[tuple(near)])


def by_distance_maps(prediction: np.ndarray, reference: np.ndarray, spacing: Spacing) -> float:
    edges = [mask & ~ndimage.binary_erosion(mask) for mask in (prediction, reference)]
    maps = [ndimage.distance_transform_edt(~edge, sampling=spacing) for edge in edges]
    return float(np.percentile(np.concatenate([maps[1][edges[0]], maps[0][edges[1]]]), 95))


def blob(seed: int, shape: tuple[int, int, int]) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), (0.5, 1.5, 1.5))
    return np.asarray(noise > np.quantile(noise, 0.8))


def one_voxel(z: int, y: int, x: int) -> np.ndarray:
    mask = np.zeros((4, 6, 8), dtype=bool)
    mask[z, y, x] = True
    return mask


class TestByHand:
    def test_two_voxels_in_millimetres(self) -> None:
        # 1 slice of 5 mm, 2 rows of 2 mm, 3 columns of 1 mm: sqrt(25 + 16 + 9)
        assert hd95(one_voxel(0, 0, 0), one_voxel(1, 2, 3), (5, 2, 1)) == pytest.approx(math.sqrt(50))

    def test_equal_masks(self) -> None:
        mask = blob(0, (4, 12, 12))
        assert hd95(mask, mask, (5, 1, 1)) == 0

    def test_both_directions_are_pooled(self) -> None:
        # The reference is the pixel at column 0, the prediction the pixels at columns 0 and 7. Distances are
        # 0 and 7 there, 0 back: the pool 0, 0, 7 has its 95th percentile at rank 1.9, that is 0.9 * 7. The
        # directed percentile of prediction to reference alone would be 0.95 * 7.
        prediction = one_voxel(0, 0, 0) | one_voxel(0, 0, 7)
        assert hd95(prediction, one_voxel(0, 0, 0), (1, 1, 1)) == pytest.approx(6.3)
        assert hd95(one_voxel(0, 0, 0), prediction, (1, 1, 1)) == pytest.approx(6.3)

    def test_inner_voxels_do_not_count(self) -> None:
        # A 3 x 3 x 3 cube and the same with its centre removed: the hole's walls are the six face centres,
        # which are on the outer surface anyway, so both have the same 26 surface voxels.
        cube = np.zeros((5, 5, 5), dtype=bool)
        cube[1:4, 1:4, 1:4] = True
        hollow = cube.copy()
        hollow[2, 2, 2] = False
        assert hd95(cube, hollow, (1, 1, 1)) == 0

    def test_one_slice_is_measured_by_its_outline(self) -> None:
        # Squares of 9 and 5 pixels' side about one centre. Outer outline: 32 pixels, of which 4 corners are
        # sqrt(8) from the inner one, the two next to each corner at sqrt(5), the rest at 2; inner outline: 16
        # pixels at 2. Of 48, the four greatest take ranks 44 to 47; rank 0.95 * 47 = 44.65 is sqrt(8).
        outer, inner = np.zeros((2, 1, 11, 11), dtype=bool)
        outer[:, 1:10, 1:10] = True
        inner[:, 3:8, 3:8] = True
        assert hd95(outer, inner, (7, 1, 1)) == pytest.approx(math.sqrt(8))

    def test_undefined_where_either_is_empty(self) -> None:
        mask, empty = one_voxel(0, 0, 0), np.zeros((4, 6, 8), dtype=bool)
        assert hd95(mask, empty, (1, 1, 1)) is None
        assert hd95(empty, mask, (1, 1, 1)) is None
        assert hd95(empty, empty, (1, 1, 1)) is None

    def test_refuses_what_has_no_distance(self) -> None:
        mask = one_voxel(0, 0, 0)
        with pytest.raises(ValueError, match="spacing"):
            hd95(mask, mask, (0, 1, 1))
        with pytest.raises(ValueError, match="spacing"):
            hd95(mask, mask, (1, 1, float("nan")))
        with pytest.raises(ValueError, match="one shape"):
            hd95(mask[0], mask[0], (1, 1, 1))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("shape", "spacing"),
    [((5, 12, 11), (5.0, 0.7, 0.9)), ((1, 16, 16), (5.0, 1.0, 1.3)), ((3, 1, 14), (1.0, 1.0, 2.0))],
)
def test_equals_brute_force(shape: tuple[int, int, int], spacing: Spacing, seed: int) -> None:
    prediction, reference = blob(seed, shape), blob(seed + 100, shape)
    expected = brute_force(prediction, reference, spacing)
    assert expected > 0
    assert hd95(prediction, reference, spacing) == pytest.approx(expected, abs=1e-9)


def test_equals_distance_maps_on_a_larger_volume() -> None:
    prediction, reference = blob(1, (12, 40, 44)), blob(2, (12, 40, 44))
    expected = by_distance_maps(prediction, reference, (3.0, 0.9, 0.8))
    assert hd95(prediction, reference, (3.0, 0.9, 0.8)) == pytest.approx(expected, abs=1e-9)


class TestInTheSummary:
    def summary_of(self, spacing: Spacing) -> tuple[list[float | None], dict[str, float | None]]:
        # Patient "far": class 1 is 3 columns off, class 2 nowhere. Patient "both": class 1 is right, class 2
        # is one column off. Patient "missed": class 1 was not found at all.
        masks = np.zeros((3, 2, 1, 4, 8), dtype=np.uint8)  # patient, (prediction, reference), slice, row, column
        masks[0, 0, 0, 0, 3], masks[0, 1, 0, 0, 0] = 1, 1
        masks[1, :, 0, 1, 1], masks[1, 0, 0, 3, 5], masks[1, 1, 0, 3, 6] = 1, 2, 2
        masks[2, 1, 0, 0, 0] = 1
        names = ("far", "both", "missed")
        table = ConfusionTable.from_patients(
            [(name, slice_confusions(*pair, 3)) for name, pair in zip(names, masks, strict=True)],
            ("background", "a", "b"),
        )
        distances = {name: class_hd95(*pair, 3, spacing) for name, pair in zip(names, masks, strict=True)}
        assert distances["far"] == (3 * spacing[2], None)
        summary = summarise(table, hd95=distances)
        per_class = {entry.name: {f.key: f.value for f in entry.figures} for entry in summary.classes}
        assert "hd95_mean" not in per_class["background"]
        values = {"a": per_class["a"]["hd95_mean"], "b": per_class["b"]["hd95_mean"]}
        assert summary.figure("hd95_mean").over == "2 of 3 patients"
        values |= {key: summary.figure(key).value for key in ("hd95_mean", "hd95_median")}
        return [row.hd95 for row in summary.patients], values

    def test_averages_the_classes_then_the_patients(self) -> None:
        rows, values = self.summary_of((5, 1, 2))
        # In mm of 2 a column: far 6; both (0 + 2) / 2 = 1; missed none.
        assert rows == [6, 1, None]
        assert values == {"a": 3, "b": 2, "hd95_mean": 3.5, "hd95_median": 3.5}

    def test_refuses_distances_of_other_classes(self) -> None:
        mask = np.ones((1, 2, 2), dtype=np.uint8)
        table = ConfusionTable.from_patients([("A", slice_confusions(mask, mask, 2))], ("background", "tumour"))
        with pytest.raises(ValueError, match="1 distances a patient"):
            summarise(table, hd95={"A": (1.0, 2.0)})

    def test_a_patient_without_known_spacing(self) -> None:
        mask = np.ones((1, 2, 2), dtype=np.uint8)
        counts = slice_confusions(mask, mask, 2)
        table = ConfusionTable.from_patients([("A", counts), ("B", counts)], ("background", "tumour"))
        summary = summarise(table, hd95={"B": (4.0,)})
        assert [row.hd95 for row in summary.patients] == [None, 4.0]
        figure = summary.figure("hd95_mean")
        assert (figure.value, figure.low, figure.unit) == (4.0, None, "mm")
