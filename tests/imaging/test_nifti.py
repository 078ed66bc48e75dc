from __future__ import annotations

import gzip
import itertools
from pathlib import Path

import nibabel
import numpy as np
import pytest

from segkit.errors import FileError
from segkit.imaging.nifti import read_nifti
from segkit.imaging.write import write_mask

SHAPE = (3, 4, 5)
SIZES = (2.0, 0.5, 1.25)  # millimetres along the file's axes
ORIENTATIONS = [
    (order, signs) for order in itertools.permutations(range(3)) for signs in itertools.product((1, -1), repeat=3)
]


def oriented(order: tuple[int, ...], signs: tuple[int, ...]) -> np.ndarray:
    """Affine whose file axis i runs along the world's axis order[i]."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (world, sign) in enumerate(zip(order, signs, strict=True)):
        affine[world, axis] = sign * SIZES[axis]
    affine[:3, 3] = 11, -7, 3
    return affine


def save(path: Path, data: np.ndarray, affine: np.ndarray | None = None, cls=nibabel.Nifti1Image) -> Path:
    nibabel.save(cls(data, np.eye(4) if affine is None else affine), path)
    return path


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_every_orientation_is_shown_alike_and_restored(tmp_path: Path, order, signs) -> None:
    data = np.random.default_rng(0).integers(0, 1000, SHAPE).astype(np.int16)
    image = nibabel.Nifti1Image(data, oriented(order, signs))
    nibabel.save(image, tmp_path / "a.nii.gz")
    scan = read_nifti(tmp_path / "a.nii.gz")

    canonical = nibabel.as_closest_canonical(image)  # axes to right, anterior, superior
    reference = np.asarray(canonical.dataobj)[::-1, ::-1].transpose(2, 1, 0)
    np.testing.assert_array_equal(scan.pixels[..., 0], reference)
    sizes = canonical.header.get_zooms()
    assert scan.spacing == pytest.approx((sizes[2], sizes[1], sizes[0]))

    mask = (scan.pixels[..., 0] > 500).astype(np.uint8)
    write_mask(tmp_path / "m.nii.gz", mask, scan, (0, 255))
    written = nibabel.load(tmp_path / "m.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj), data > 500)
    assert written.get_data_dtype() == np.uint8
    assert written.affine.tobytes() == nibabel.load(tmp_path / "a.nii.gz").affine.tobytes()


def test_the_masks_header_keeps_the_geometry_bit_for_bit(tmp_path: Path) -> None:
    rotation = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))[0] * SIZES
    affine = nibabel.affines.from_matvec(rotation, [1.1, 2.2, 3.3])
    image = nibabel.Nifti1Image(np.zeros((*SHAPE, 1), np.float32), affine)
    image.header.set_xyzt_units("mm", "sec")
    image.set_qform(affine @ np.diag([1, 1, 1.01, 1]), code=1)
    image.set_sform(affine, code=4)
    image.header["descrip"] = b"kept"
    nibabel.save(image, tmp_path / "a.nii")
    scan = read_nifti(tmp_path / "a.nii")
    write_mask(tmp_path / "m.nii", np.ones(scan.shape, np.uint8), scan, (0, 255))
    before, after = nibabel.load(tmp_path / "a.nii"), nibabel.load(tmp_path / "m.nii")
    fields = "dim pixdim qform_code sform_code quatern_b quatern_c quatern_d qoffset_x qoffset_y qoffset_z"
    for name in (*fields.split(), "srow_x", "srow_y", "srow_z", "xyzt_units", "descrip"):
        assert before.header[name].tobytes() == after.header[name].tobytes(), name
    assert after.shape == (*SHAPE, 1)
    assert np.asarray(after.dataobj).max() == 1  # class indices, not the values of TIFF masks


@pytest.mark.parametrize("cls", [nibabel.Nifti1Image, nibabel.Nifti2Image, nibabel.Nifti1Pair])
@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("code", ["u1", "i2", "u2", "i4", "f4", "f8", "i8"])
def test_every_number_type(tmp_path: Path, cls, endian: str, code: str) -> None:
    dtype = np.dtype(endian + code)
    data = np.random.default_rng(0).integers(0, 100, SHAPE).astype(dtype)
    header = cls.header_class(endianness=endian)
    header.set_data_dtype(dtype)
    path = tmp_path / ("a.hdr" if cls is nibabel.Nifti1Pair else "a.nii")
    nibabel.save(cls(data, np.eye(4), header), path)
    scan = read_nifti(path)
    assert scan.pixels.dtype.isnative
    np.testing.assert_array_equal(scan.nifti.to_file(scan.pixels[..., 0]), data)


def test_scale_factors_are_applied(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.random.default_rng(0).standard_normal(SHAPE) * 40, np.eye(4))
    image.set_data_dtype(np.int16)  # nibabel chooses slope and intercept when it saves
    nibabel.save(image, tmp_path / "a.nii")
    reference = nibabel.load(tmp_path / "a.nii")
    assert reference.header["scl_slope"] != 1
    scan = read_nifti(tmp_path / "a.nii")
    np.testing.assert_allclose(scan.nifti.to_file(scan.pixels[..., 0]), reference.get_fdata(), rtol=1e-5)


def test_spacing_is_in_millimetres(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros(SHAPE, np.uint8), np.diag([0.001, 0.002, 0.003, 1]))
    image.header.set_xyzt_units("meter")
    nibabel.save(image, tmp_path / "a.nii")
    assert read_nifti(tmp_path / "a.nii").spacing == pytest.approx((3, 2, 1))


def test_one_slice_without_a_third_axis(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", np.arange(12, dtype=np.int16).reshape(3, 4))
    scan = read_nifti(path)
    assert scan.shape == (1, 4, 3)
    write_mask(tmp_path / "m.nii", np.ones(scan.shape, np.uint8), scan, (0, 1))
    assert nibabel.load(tmp_path / "m.nii").shape == (3, 4)


def test_an_affine_that_is_none_leaves_the_spacing_unknown(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros(SHAPE, np.int16), np.eye(4))
    image.header["qform_code"] = 0
    nibabel.save(image, tmp_path / "a.nii")
    patched(tmp_path / "a.nii", 280, bytes(12))  # a row of the sform, which is then singular
    scan = read_nifti(tmp_path / "a.nii")
    assert (scan.affine, scan.spacing) == (None, None)
    write_mask(tmp_path / "m.nii", np.ones(scan.shape, np.uint8), scan, (0, 255))
    assert nibabel.load(tmp_path / "m.nii").shape == SHAPE


@pytest.mark.parametrize(
    ("shape", "reason"),
    [((3, 4, 5, 2), "holds 2 volumes"), ((3, 4, 5, 1, 3), "holds 3 volumes")],
)
def test_several_volumes_are_refused_with_the_remedy(tmp_path: Path, shape, reason: str) -> None:
    with pytest.raises(FileError, match=f"{reason}.*--volume 0"):
        read_nifti(save(tmp_path / "a.nii", np.zeros(shape, np.int16)))


def test_trailing_axes_of_one_are_dropped(tmp_path: Path) -> None:
    assert read_nifti(save(tmp_path / "a.nii", np.zeros((3, 4, 5, 1, 1), np.int16))).shape == (5, 4, 3)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_truncated_file_is_one_line(tmp_path: Path, name: str) -> None:
    data = np.random.default_rng(0).integers(0, 1000, (9, 9, 9)).astype(np.int16)
    path = save(tmp_path / name, data)
    content = path.read_bytes()
    for length in (3, 100, 360, len(content) - 20):
        path.write_bytes(content[:length])
        with pytest.raises(FileError) as caught:
            read_nifti(path)
        assert "\n" not in str(caught.value)


def patched(path: Path, at: int, content: bytes) -> Path:
    raw = bytearray(path.read_bytes())
    raw[at : at + len(content)] = content
    path.write_bytes(raw)
    return path


def test_claims_are_checked_before_memory_is_taken(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", np.zeros(SHAPE, np.int16))
    patched(path, 42, np.array([30000, 30000, 30000], "<i2").tobytes())
    with pytest.raises(FileError, match="30000 x 30000 x 30000 voxels"):
        read_nifti(path)


@pytest.mark.parametrize(
    ("at", "content", "reason"),
    [
        (42, np.array([-3], "<i2").tobytes(), "impossible shape"),
        (42, np.array([0], "<i2").tobytes(), "impossible shape"),
        (70, np.array([1792], "<i2").tobytes(), "complex128"),
        (70, np.array([999], "<i2").tobytes(), "unknown type"),
        (108, np.array([1e20], "<f4").tobytes(), "begin at byte"),
        (108, np.array([np.nan], "<f4").tobytes(), "begin at byte"),
        (112, np.array([1, np.inf], "<f4").tobytes(), "scale factor"),
        (68, np.array([3006], "<i2").tobytes(), "CIFTI"),
    ],
)
def test_headers_that_cannot_be_are_refused(tmp_path: Path, at: int, content: bytes, reason: str) -> None:
    path = patched(save(tmp_path / "a.nii", np.zeros(SHAPE, np.int16)), at, content)
    with pytest.raises(FileError, match=reason):
        read_nifti(path)


def test_a_gzip_bomb_is_read_no_further_than_its_header_says(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", np.zeros(SHAPE, np.int16))
    bomb = tmp_path / "b.nii.gz"
    with gzip.open(bomb, "wb", compresslevel=1) as file:
        file.write(path.read_bytes())
        for _ in range(64):
            file.write(bytes(2**20))
    assert read_nifti(bomb).shape == (5, 4, 3)


def test_half_a_pair_names_the_other_half(tmp_path: Path) -> None:
    save(tmp_path / "a.hdr", np.zeros(SHAPE, np.int16), cls=nibabel.Nifti1Pair)
    (tmp_path / "a.img").unlink()
    with pytest.raises(FileError, match=r"a\.img is not beside it"):
        read_nifti(tmp_path / "a.hdr")


def test_a_volume_of_several_is_chosen_by_number(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 1000, (*SHAPE, 3)).astype(np.int16)
    for name in ("a.nii", "a.nii.gz"):
        path = save(tmp_path / name, data, oriented((2, 0, 1), (1, -1, 1)))
        for number in range(3):
            scan = read_nifti(path, str(number))
            np.testing.assert_array_equal(scan.nifti.to_file(scan.pixels[..., 0]), data[..., number])
        every = read_nifti(path, "all")
        assert every.channels == ("volume 0", "volume 1", "volume 2")
        np.testing.assert_array_equal(read_nifti(path, "2,0").pixels, every.pixels[..., [2, 0]])
        write_mask(tmp_path / "m.nii", np.ones(scan.shape, np.uint8), every, (0, 1))
        mask = nibabel.load(tmp_path / "m.nii")
        assert mask.shape == SHAPE
        assert mask.affine.tobytes() == nibabel.load(path).affine.tobytes()
        for wrong in ("3", "x", "", "-1", "0,7"):
            with pytest.raises(FileError, match=r"holds 3 volumes along its axis 4 .*--volume 0 to --volume 2"):
                read_nifti(path, wrong)


def test_sform_and_qform_that_disagree_are_named_and_both_kept(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros(SHAPE, np.int16), oriented((0, 1, 2), (1, 1, 1)))
    image.set_sform(oriented((0, 1, 2), (1, 1, 1)), code=1)
    image.set_qform(oriented((0, 1, 2), (-1, 1, 1)), code=1)
    nibabel.save(image, tmp_path / "a.nii")
    scan = read_nifti(tmp_path / "a.nii")
    assert "sform and qform differ by up to 8 mm; the sform is used" in scan.notes[0]
    np.testing.assert_array_equal(scan.affine, image.get_sform())
    write_mask(tmp_path / "m.nii", np.ones(scan.shape, np.uint8), scan, (0, 1))
    written = nibabel.load(tmp_path / "m.nii")
    np.testing.assert_array_equal(written.get_qform(), nibabel.load(tmp_path / "a.nii").get_qform())
    np.testing.assert_array_equal(written.get_sform(), image.get_sform())


def test_the_qform_alone_is_used(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros(SHAPE, np.int16), None)
    image.set_qform(oriented((1, 0, 2), (-1, 1, 1)), code=1)
    image.set_sform(None, code=0)
    nibabel.save(image, tmp_path / "a.nii")
    scan = read_nifti(tmp_path / "a.nii")
    np.testing.assert_allclose(scan.affine, oriented((1, 0, 2), (-1, 1, 1)), atol=1e-6)
    assert scan.notes == ()


def test_an_orientation_that_is_a_guess_is_named(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros(SHAPE, np.int16), None)
    nibabel.save(image, tmp_path / "a.nii")
    assert "left and right are a guess" in read_nifti(tmp_path / "a.nii").notes[0]
