from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from segkit.errors import FileError
from segkit.imaging.read import read_scan

ROTATION = np.array([[0.96, -0.28, 0], [0.28, 0.96, 0], [0, 0, 1]])


def field(points: np.ndarray) -> np.ndarray:
    """Linear in space, so that trilinear interpolation is exact."""
    return 500 + points @ np.array([3.0, -2.0, 5.0])


def volume(path: Path, shape: tuple[int, int, int], affine: np.ndarray, units: str = "mm") -> Path:
    indices = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    data = field(nibabel.affines.apply_affine(affine, indices)).astype(np.float32)
    image = nibabel.Nifti1Image(data, affine)
    if units == "meter":
        image = nibabel.Nifti1Image(data, np.diag([1e-3, 1e-3, 1e-3, 1]) @ affine)
    image.header.set_xyzt_units(units)
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("units", ["mm", "meter"])
def test_a_channel_on_another_grid_is_brought_onto_the_references(tmp_path: Path, units: str) -> None:
    flair = volume(tmp_path / "flair.nii", (12, 14, 6), nibabel.affines.from_matvec(np.diag([1, 1, 3]), [-6, -7, -9]))
    other = nibabel.affines.from_matvec(ROTATION @ np.diag([-0.8, 0.9, 1.5]), [22, -25, -20])
    post = volume(tmp_path / "post.nii", (50, 50, 30), other, units)
    scan = read_scan([post, flair, post], reference=1)
    assert scan.affine.tobytes() == read_scan(flair).affine.tobytes()
    np.testing.assert_allclose(scan.pixels[..., 0], scan.pixels[..., 1], atol=1e-2)
    assert any("covers 100%" in note for note in scan.notes)


def test_what_is_not_covered_is_dark_and_the_share_is_named(tmp_path: Path) -> None:
    flair = volume(tmp_path / "flair.nii", (20, 20, 10), np.eye(4))
    half = volume(tmp_path / "half.nii", (20, 20, 5), np.eye(4))
    scan = read_scan([flair, half])
    np.testing.assert_allclose(scan.pixels[:5, ..., 1], scan.pixels[:5, ..., 0], atol=1e-3)
    lowest = read_scan(half).pixels.min()
    np.testing.assert_allclose(scan.pixels[6:, ..., 1], lowest)
    assert "covers 50%" in scan.notes[0]


def test_a_hundredth_of_a_millimetre_is_no_other_grid(tmp_path: Path) -> None:
    flair = volume(tmp_path / "flair.nii", (20, 20, 10), np.eye(4))
    near = volume(tmp_path / "near.nii", (20, 20, 10), nibabel.affines.from_matvec(np.eye(3), [0.004, 0, 0]))
    scan = read_scan([flair, near])
    assert scan.notes == ()
    np.testing.assert_array_equal(scan.pixels[..., 1], read_scan(near).pixels[..., 0])


def test_another_part_of_the_body_is_refused(tmp_path: Path) -> None:
    flair = volume(tmp_path / "flair.nii", (20, 20, 10), np.eye(4))
    far = volume(tmp_path / "far.nii", (20, 20, 10), nibabel.affines.from_matvec(np.eye(3), [500, 0, 0]))
    with pytest.raises(FileError, match=r"lies elsewhere than flair\.nii"):
        read_scan([flair, far])


def test_nan_is_no_intensity(tmp_path: Path) -> None:
    flair = volume(tmp_path / "flair.nii", (6, 6, 6), np.eye(4))
    data = np.full((12, 12, 12), 7, np.float32)
    data[0] = np.nan
    nibabel.save(nibabel.Nifti1Image(data, np.diag([0.5, 0.5, 0.5, 1])), tmp_path / "nan.nii")
    assert (read_scan([flair, tmp_path / "nan.nii"]).pixels[..., 1] == 7).all()


@pytest.mark.parametrize("types", [("i2", "u2", "f4"), ("i4", "f4", "i2"), ("f8", "f8", "f8"), ("i2", "u2", "i2")])
def test_channels_of_mixed_types_take_four_bytes_at_most(tmp_path: Path, types: tuple[str, ...]) -> None:
    data = np.random.default_rng(0).integers(0, 1000, (6, 5, 4))
    files = []
    for number, dtype in enumerate(types):
        files.append(tmp_path / f"{number}.nii")
        nibabel.save(nibabel.Nifti1Image((data + number).astype(dtype), np.eye(4)), files[-1])
    scan = read_scan(files)
    assert scan.pixels.itemsize <= 4
    for number in range(3):
        np.testing.assert_array_equal(scan.nifti.to_file(scan.pixels[..., number]), data + number)
