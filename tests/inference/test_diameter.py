from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from segkit.inference.diameter import longest_diameter


def all_pairs(voxels: np.ndarray, axes: np.ndarray) -> float:
    """By brute force: the midpoints of all faces between a voxel inside and one outside."""
    padded = np.pad(voxels, 1)
    points = []
    for at in np.argwhere(padded):
        for axis in range(voxels.ndim):
            for side in (-1, 1):
                other = at.copy()
                other[axis] += side
                if not padded[tuple(other)]:
                    points.append((at + other) / 2)
    return float(pdist(np.array(points) @ axes).max())


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("ndim", [2, 3])
def test_no_pair_of_the_surface_is_further_apart(seed: int, ndim: int) -> None:
    random = np.random.default_rng(seed)
    voxels = random.random((5, 7, 6)[:ndim]) > (0.5 if seed % 2 else 0.93)
    voxels.flat[0] = True
    axes = random.standard_normal((ndim, 3))
    assert longest_diameter(voxels, axes) == pytest.approx(all_pairs(voxels, axes))


def test_a_voxel_is_as_long_as_its_longest_side() -> None:
    assert longest_diameter(np.ones((1, 1, 1), bool), np.diag([5.0, 0.5, 2.0])) == pytest.approx(5)


def test_a_rod_and_a_large_solid() -> None:
    rod = np.zeros((4, 4, 100), bool)
    rod[1, 2, 10:90] = True
    assert longest_diameter(rod, np.diag([1.0, 1.0, 0.5])) == pytest.approx(40)
    assert longest_diameter(np.ones((60, 80, 90), bool), np.eye(3)) == pytest.approx(np.hypot(np.hypot(59, 79), 90))
