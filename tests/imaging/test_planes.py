from __future__ import annotations

import numpy as np
import pytest

from segkit.errors import ConfigError
from segkit.imaging.planes import PLANES, choose_plane, from_plane, spacing_in, to_plane

# Each voxel says where it is: slices to superior, rows to posterior, columns to left.
SUPERIOR, POSTERIOR, LEFT = np.mgrid[:3, :4, :5]


def test_slices_rows_and_columns_run_as_a_radiologist_expects() -> None:
    views = {
        "axial": (SUPERIOR, POSTERIOR, LEFT),
        "coronal": (POSTERIOR, SUPERIOR.max() - SUPERIOR, LEFT),
        "sagittal": (LEFT, SUPERIOR.max() - SUPERIOR, POSTERIOR),
    }
    for plane, expected in views.items():
        for axis, values in enumerate(expected):
            view = to_plane(values, plane)
            np.testing.assert_array_equal(view, np.moveaxis(np.mgrid[tuple(map(slice, view.shape))][axis], 0, 0))


@pytest.mark.parametrize("plane", PLANES)
def test_there_and_back(plane: str) -> None:
    volume = np.random.default_rng(0).random((3, 4, 5, 2))
    np.testing.assert_array_equal(from_plane(to_plane(volume, plane), plane), volume)
    assert np.shares_memory(to_plane(volume, plane), volume)
    spacing = spacing_in((1.0, 2.0, 3.0), plane)
    assert np.prod(spacing) == 6
    assert to_plane(volume[..., 0], plane).shape == tuple({1.0: 3, 2.0: 4, 3.0: 5}[step] for step in spacing)


def test_the_choice() -> None:
    assert choose_plane((5, 1, 1)) == "axial"
    assert choose_plane((1, 5, 1)) == "coronal"
    assert choose_plane((1, 1, 5)) == "sagittal"
    assert choose_plane((1, 1.1, 1)) == choose_plane((1, 1, 1)) == choose_plane(None) == "axial"
    assert choose_plane((1, 1, 5), trained="axial") == "axial"
    assert choose_plane((1, 1, 5), wanted="coronal", trained="axial") == "coronal"
    with pytest.raises(ConfigError):
        choose_plane(None, "oblique")
