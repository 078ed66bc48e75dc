from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from segkit.errors import FileError
from segkit.imaging.read import read_scan


def picture(path: Path, value: int, size: tuple[int, int] = (6, 4), mode: str = "L") -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.new(mode, size, value).save(path)
    return path


def volume(path: Path, value: int, origin: float = 0.0) -> Path:
    affine = np.eye(4)
    affine[0, 3] = origin
    nibabel.save(nibabel.Nifti1Image(np.full((3, 4, 5), value, np.int16), affine), path)
    return path


def test_a_folder_is_one_scan_in_natural_order_without_masks(tmp_path: Path) -> None:
    for number in (1, 2, 10):
        picture(tmp_path / f"s_{number}.tif", number)
        picture(tmp_path / f"s_{number}_mask.tif", 255)
    picture(tmp_path / "s_overlay.png", 9)
    (tmp_path / "notes.txt").write_text("no slice")
    scan = read_scan(tmp_path)
    assert scan.shape == (3, 4, 6)
    assert scan.pixels[:, 0, 0, 0].tolist() == [1, 2, 10]
    assert scan.kind == "folder"


def test_slices_of_a_folder_must_be_alike(tmp_path: Path) -> None:
    picture(tmp_path / "a.tif", 1)
    picture(tmp_path / "b.tif", 1, size=(6, 5))
    with pytest.raises(FileError, match=r"b\.tif: is 6 x 5"):
        read_scan(tmp_path)


def test_files_as_channels_and_one_repeated(tmp_path: Path) -> None:
    pre, flair = volume(tmp_path / "pre.nii", 1), volume(tmp_path / "flair.nii.gz", 2)
    scan = read_scan([pre, flair, flair])
    assert scan.pixels[0, 0, 0].tolist() == [1, 2, 2]
    assert scan.channels == ("pre.nii", "flair.nii.gz", "flair.nii.gz")


def test_channels_must_lie_on_one_grid(tmp_path: Path) -> None:
    flair = volume(tmp_path / "flair.nii", 2)
    with pytest.raises(FileError, match=r"moved\.nii: lies elsewhere than flair\.nii"):
        read_scan([flair, volume(tmp_path / "moved.nii", 2, origin=4)])
    with pytest.raises(FileError, match=r"a\.tif: is 6 x 4 x 1"):
        read_scan([flair, picture(tmp_path / "a.tif", 1)])
    with pytest.raises(FileError, match="3 channels where one"):
        read_scan([picture(tmp_path / "b.tif", 1, mode="RGB"), picture(tmp_path / "a.tif", 1)])


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.tif", b"", "is empty"),
        ("study.tar.xz", b"\xfd7zXZ\0" + bytes(99), "an archive other than zip; unpack it"),
        ("study.tgz", gzip.compress(bytes(257) + b"ustar" + bytes(999)), "an archive other than zip; unpack it"),
        ("a.txt", b"hello", "TIFF, PNG, NIfTI and DICOM"),
        ("a.nii", b"hello", "no NIfTI header"),
        ("a.nii.gz", b"\x1f\x8bhello", "gzip"),
        ("a.dcm", bytes(128) + b"DICM" + bytes(99), "holds no DICOM image"),
        ("scan", bytes(128) + b"DICM" + bytes(99), "holds no DICOM image"),
        ("a.dcm", b"without preamble", "holds no DICOM image"),
        ("both.dcm", b"II*\0" + bytes(124) + b"DICM" + bytes(99), "holds no DICOM image"),
    ],
)
def test_what_is_no_scan_is_named(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FileError, match=reason):
        read_scan(tmp_path / name)


def test_a_missing_file_and_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="No such file"):
        read_scan(tmp_path / "absent.tif")
    with pytest.raises(FileError, match="no TIFF or PNG"):
        read_scan(tmp_path)


def test_real_volumes_are_shown_as_nibabel_orients_them(shared: Path) -> None:
    read = 0
    for path in sorted((shared / "nifti").glob("*.nii*")):
        image = nibabel.load(path)
        if image.ndim != 3:
            continue
        reference = np.asarray(nibabel.as_closest_canonical(image).dataobj)[::-1, ::-1].transpose(2, 1, 0)
        np.testing.assert_allclose(read_scan(path).pixels[..., 0], reference, rtol=1e-6)
        read += 1
    assert read >= 4
