"""A mask lies where the scan does, however the scan is stored."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from dicom_series import write_series
from PIL import Image
from threshold_model import expected_classes, threshold_metadata, write_threshold_model

from segkit.imaging.dicom.volume import open_studies, read_study
from segkit.imaging.read import read_scan
from segkit.imaging.window import to_uint8
from segkit.imaging.write import write_mask
from segkit.inference.postprocess import measure
from segkit.inference.segmenter import Segmenter, Slicing
from segkit.inference.session import Model

ORIENTATIONS = [
    (order, signs) for order in itertools.permutations(range(3)) for signs in itertools.product((1, -1), repeat=3)
]
ROTATION = np.array([[0.96, -0.224, 0.168], [0.28, 0.768, -0.576], [0, 0.6, 0.8]])  # 17 and 37 degrees


def blob(shape: tuple[int, int, int]) -> np.ndarray:
    """A lopsided smooth blob with a little noise, of many values: int16 [x, y, z]."""
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, length) for length in shape], indexing="ij")
    values = 1500 * np.exp(-3 * ((x - 0.2) ** 2 + (y + 0.1) ** 2 * 2 + (z - 0.1) ** 2 + x * y * 0.5))
    return np.rint(values + np.random.default_rng(0).uniform(0, 40, shape)).astype(np.int16)


def segmenter(folder: Path, **metadata: object) -> Segmenter:
    """A model for one channel that keeps slices as they are, but for what `metadata` says."""
    described = replace(threshold_metadata(channels=1, fit="pad"), **metadata)
    return Segmenter(Model.load(write_threshold_model(folder / "model.onnx", described), "cpu"))


def base(sizes: tuple[float, float, float]) -> np.ndarray:
    """An oblique affine with the given voxel sizes, left-handed or not by the sign of the first."""
    return nibabel.affines.from_matvec(ROTATION @ np.diag(sizes), [11, -7, 3])


def turned(data: np.ndarray, affine: np.ndarray, order, signs) -> tuple[np.ndarray, np.ndarray]:
    """The same volume with its axes in another order and direction."""
    image = data.transpose(order)
    matrix = np.zeros((4, 4))
    matrix[3, 3] = 1
    for axis, (old, sign) in enumerate(zip(order, signs, strict=True)):
        matrix[old, axis] = sign
        matrix[old, 3] = 0 if sign == 1 else data.shape[old] - 1
    return image[tuple(slice(None, None, sign) for sign in signs)], affine @ matrix


def turned_back(data: np.ndarray, order, signs) -> np.ndarray:
    return data[tuple(slice(None, None, sign) for sign in signs)].transpose(np.argsort(order))


def mask_file(model: Segmenter, path: Path, slicing: Slicing | None = None) -> np.ndarray:
    """Segment a NIfTI, write the mask, read it with nibabel: the array in the file's own axes."""
    scan = read_scan(path)
    target = path.with_name("mask.nii.gz")
    write_mask(target, model.segment(scan, slicing).mask, scan, (0, 1))
    written, image = nibabel.load(target), nibabel.load(path)
    assert written.affine.tobytes() == image.affine.tobytes()
    assert written.shape == image.shape
    return np.asarray(written.dataobj)


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))


@pytest.mark.parametrize("sizes", [(1.0, 1.0, 4.0), (-1.5, 1.5, 1.5), (5.0, 0.8, 0.8)])
def test_any_of_48_axis_orders_gives_the_same_mask(tmp_path: Path, sizes) -> None:
    model = segmenter(tmp_path)
    data, affine = blob((21, 34, 27)), base(sizes)
    expected = expected_classes(to_uint8(data[..., None], keep_uint8=False)[..., 0])
    assert 0.02 < expected.mean() < 0.5
    for order, signs in ORIENTATIONS:
        image, placed = turned(data, affine, order, signs)
        path = tmp_path / "scan.nii"
        nibabel.save(nibabel.Nifti1Image(image, placed), path)
        np.testing.assert_array_equal(turned_back(mask_file(model, path), order, signs), expected)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_resampled_slices_give_the_same_mask_in_any_axis_order(tmp_path: Path, plane: str) -> None:
    model = segmenter(tmp_path, pixel_mm=(1.0, 1.0))
    data, affine = blob((40, 44, 30)), base((0.8, 0.7, 1.3))
    sharp = expected_classes(to_uint8(data[..., None], keep_uint8=False)[..., 0]) > 0
    reference = None
    for order, signs in ORIENTATIONS[::5]:
        image, placed = turned(data, affine, order, signs)
        path = tmp_path / "scan.nii"
        nibabel.save(nibabel.Nifti1Image(image, placed), path)
        mask = turned_back(mask_file(model, path, Slicing(plane)), order, signs) > 0
        reference = mask if reference is None else reference
        assert dice(mask, reference) > 0.98
        assert dice(mask, sharp) > 0.95


def test_slices_are_seen_at_the_training_resolution(tmp_path: Path) -> None:
    """A volume of twice the resolution gives the mask of the coarse one, each pixel as a square of four."""
    model = segmenter(tmp_path, pixel_mm=(2.0, 2.0))
    coarse = np.random.default_rng(0).integers(0, 2, (12, 16, 5)).astype(np.int16) * 1000
    coarse = np.kron(coarse, np.ones((4, 4, 1), np.int16))
    fine = coarse.repeat(2, axis=0).repeat(2, axis=1)
    masks = []
    for name, data, size in (("coarse", coarse, 2.0), ("fine", fine, 1.0)):
        path = tmp_path / f"{name}.nii"
        nibabel.save(nibabel.Nifti1Image(data, np.diag([size, size, 4, 1])), path)
        masks.append(mask_file(model, path) > 0)
    np.testing.assert_array_equal(masks[0], coarse > 0)
    assert dice(masks[1], masks[0].repeat(2, axis=0).repeat(2, axis=1)) > 0.98


@pytest.mark.parametrize(
    ("name", "cls", "dtype"),
    [
        ("a.nii", nibabel.Nifti1Image, "<i2"),
        ("a.nii.gz", nibabel.Nifti1Image, ">i2"),
        ("a.nii.gz", nibabel.Nifti2Image, "<i4"),
        ("a.nii", nibabel.Nifti2Image, ">u2"),
        ("a.hdr", nibabel.Nifti1Pair, "<f4"),
        ("a.nii", nibabel.Nifti1Image, "<f8"),
    ],
)
def test_any_file_and_number_type_gives_the_same_mask(tmp_path: Path, name: str, cls, dtype: str) -> None:
    data = blob((21, 34, 27))
    header = cls.header_class(endianness=dtype[0])
    header.set_data_dtype(np.dtype(dtype))
    nibabel.save(cls(data.astype(dtype), base((1, 1, 4)), header), tmp_path / name)
    scan = read_scan(tmp_path / name)
    mask = scan.nifti.to_file(segmenter(tmp_path).segment(scan).mask)
    np.testing.assert_array_equal(mask, expected_classes(to_uint8(data[..., None], keep_uint8=False)[..., 0]))


def test_scaled_integers_give_the_same_mask(tmp_path: Path) -> None:
    data = blob((21, 34, 27))
    path = tmp_path / "scaled.nii"
    nibabel.save(nibabel.Nifti1Image(data, base((1, 1, 4))), path)
    content = bytearray(path.read_bytes())
    content[112:120] = np.array([0.5, -100], "<f4").tobytes()  # scl_slope, scl_inter
    path.write_bytes(content)
    np.testing.assert_allclose(nibabel.load(path).get_fdata(), data * 0.5 - 100)
    expected = expected_classes(to_uint8(data[..., None], keep_uint8=False)[..., 0])
    np.testing.assert_array_equal(mask_file(segmenter(tmp_path), path), expected)


def test_dicom_nifti_and_tiff_give_the_same_mask_in_space(tmp_path: Path) -> None:
    data = np.ascontiguousarray(blob((30, 36, 12)).transpose(2, 1, 0)).astype(np.uint16)  # [slice, row, column]
    model = segmenter(tmp_path)
    expected = expected_classes(to_uint8(data[..., None])[..., 0])

    pages = [Image.fromarray(plane) for plane in data]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(model.segment(read_scan(tmp_path / "a.tif")).mask, expected)

    turns = {"axial": (1, 0, 0, 0, 1, 0), "coronal": (1, 0, 0, 0, 0, -1), "sagittal": (0, 1, 0, 0, 0, -1)}
    turns["oblique"] = (0.96, 0.28, 0.0, -0.224, 0.768, -0.6)
    turns["upside down"] = (-1, 0, 0, 0, 1, 0)
    for name, orientation in turns.items():
        write_series(tmp_path / name, data, orientation=orientation, pixel=(0.9, 0.9), gap=4.0)
        scan, _ = read_study(open_studies([tmp_path / name])[0][0], {}, ("flair",))
        mask = model.segment(scan).mask
        np.testing.assert_array_equal(scan.nifti.to_file(mask).transpose(2, 1, 0), expected, err_msg=name)
        # The same voxels as NIfTI, by the formula of the standard (PS3.3 C.7.6.2.1.1).
        cosines = np.array(orientation).reshape(2, 3)
        origin, normal = np.array([-10.0, -20.0, 30.0]), np.cross(*cosines)
        for k, j, i in itertools.product((0, 11), (0, 35), (0, 29)):
            lps = origin + cosines[0] * 0.9 * i + cosines[1] * 0.9 * j + normal * 4 * k
            ras = nibabel.affines.apply_affine(scan.affine, (i, j, k))
            np.testing.assert_allclose(ras, lps * [-1, -1, 1], atol=1e-4)
        nibabel.save(nibabel.Nifti1Image(data.transpose(2, 1, 0), scan.affine), tmp_path / "same.nii")
        np.testing.assert_array_equal(mask_file(model, tmp_path / "same.nii").transpose(2, 1, 0), expected)


def test_any_of_48_axis_orders_as_dicom_gives_the_same_mask_in_the_patient(tmp_path: Path) -> None:
    model = segmenter(tmp_path)
    data, affine = blob((9, 14, 11)), base((5.0, 0.8, 0.8))
    expected = expected_classes(to_uint8(data[..., None], keep_uint8=False)[..., 0])
    voxels = np.argwhere(np.ones(data.shape, bool))
    for number, (order, signs) in enumerate(ORIENTATIONS):
        image, placed = turned(data, affine, order, signs)
        axes = np.diag([-1, -1, 1]) @ placed[:3, :3]  # to left, posterior, superior
        column, row, gap = np.linalg.norm(axes, axis=0)
        orientation = (*(axes[:, 0] / column), *(axes[:, 1] / row))
        # A left-handed grid is stored with its last slice first.
        first = (
            placed
            if np.linalg.det(axes) > 0
            else placed @ nibabel.affines.from_matvec(np.diag([1, 1, -1]), [0, 0, image.shape[2] - 1])
        )
        slices = image if first is placed else image[:, :, ::-1]
        write_series(
            tmp_path / str(number), slices.transpose(2, 1, 0), orientation=orientation,
            origin=tuple(first[:3, 3] * [-1, -1, 1]), pixel=(row, column), gap=gap,
        )  # fmt: skip
        scan = read_scan(tmp_path / str(number))
        mask = scan.nifti.to_file(model.segment(scan).mask)
        at = nibabel.affines.apply_affine(np.linalg.inv(scan.affine) @ affine, voxels)
        assert np.abs(at - np.rint(at)).max() < 1e-3
        np.testing.assert_array_equal(mask[tuple(np.rint(at).astype(int).T)], expected[tuple(voxels.T)])


@pytest.mark.parametrize("sizes", [(1.0, 1.0, 1.0), (0.7, 0.7, 2.0), (-1.25, 1.25, 0.8)])
@pytest.mark.parametrize("pixel_mm", [None, (1.0, 1.0)])
def test_the_volume_and_diameter_of_a_sphere(tmp_path: Path, sizes, pixel_mm) -> None:
    radius = 25.0
    shape = tuple(int(64 / abs(size)) for size in sizes)
    affine = base(sizes)
    centre = nibabel.affines.apply_affine(affine, (np.array(shape) - 1) / 2)
    indices = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    distance = np.linalg.norm(nibabel.affines.apply_affine(affine, indices) - centre, axis=-1)
    # An edge as a scanner blurs it, so that half the intensity is at the radius.
    data = np.rint(1000 / (1 + np.exp((distance - radius) * 2))).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(data, affine), tmp_path / "sphere.nii")
    scan = read_scan(tmp_path / "sphere.nii")
    result = segmenter(tmp_path, pixel_mm=pixel_mm).segment(scan)
    found = measure(result.mask, scan, ("background", "tumour"))["tumour"]
    assert found["ml"] == pytest.approx(4 / 3 * np.pi * radius**3 / 1000, rel=0.01)
    (lesion,) = found["lesions"]
    assert lesion["longest_diameter_mm"] == pytest.approx(2 * radius, abs=np.linalg.norm(sizes))
    np.testing.assert_allclose(lesion["centre_mm"], centre, atol=0.1)


def test_the_volume_of_a_sheared_grid(tmp_path: Path) -> None:
    affine = np.array([[1, 0, 1.0, 0], [0, 1, 0, 0], [0, 0, 1.0, 0], [0, 0, 0, 1]])
    image = nibabel.Nifti1Image(np.zeros((4, 4, 4), np.int16), affine)
    nibabel.save(image, tmp_path / "a.nii")
    assert read_scan(tmp_path / "a.nii").voxel_mm3 == pytest.approx(1.0)


def test_the_plane_is_the_models_the_users_or_the_finest(tmp_path: Path) -> None:
    thick = {"axial": (1, 1, 4), "coronal": (1, 4, 1), "sagittal": (4, 1, 1)}
    for plane, sizes in thick.items():
        nibabel.save(nibabel.Nifti1Image(blob((12, 13, 14)), np.diag([*sizes, 1.0])), tmp_path / f"{plane}.nii")
    nibabel.save(nibabel.Nifti1Image(blob((12, 13, 14)), np.diag([1.1, 1, 1, 1.0])), tmp_path / "even.nii")
    model = segmenter(tmp_path)
    for plane in thick:
        scan = read_scan(tmp_path / f"{plane}.nii")
        assert model.segment(scan).plane == plane
        assert model.segment(scan, Slicing("coronal")).plane == "coronal"
        assert segmenter(tmp_path, plane="axial").segment(scan).plane == "axial"
    assert model.segment(read_scan(tmp_path / "even.nii")).plane == "axial"
