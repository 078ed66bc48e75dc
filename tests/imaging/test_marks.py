from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from dicom_series import write_series
from PIL import Image

from segkit.imaging.marks import is_ours
from segkit.imaging.overlay import write_overlay
from segkit.imaging.read import read_scan
from segkit.imaging.write import write_mask

MASK = np.ones((1, 5, 7), np.uint8)


@pytest.mark.parametrize("name", ["m.tif", "m.png", "m.nii", "m.nii.gz"])
@pytest.mark.parametrize("cls", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_our_masks_are_known_again_and_others_are_not(tmp_path: Path, name: str, cls) -> None:
    nibabel.save(cls(np.zeros((7, 5, 1), np.int16), np.diag([-1, -1, 1, 1])), tmp_path / "scan.nii")
    write_mask(tmp_path / name, MASK, read_scan(tmp_path / "scan.nii"), (0, 255))
    assert is_ours(tmp_path / name)
    if "nii" in name:
        nibabel.save(cls(np.zeros((7, 5, 1), np.int16), np.eye(4)), tmp_path / name)
    else:
        Image.fromarray(MASK[0]).save(tmp_path / name)
    assert not is_ours(tmp_path / name)
    (tmp_path / name).write_bytes(b"no picture")
    assert not is_ours(tmp_path / name)


def test_pictures_tables_and_dicom(tmp_path: Path) -> None:
    write_overlay(tmp_path / "o.png", np.zeros((1, 5, 7, 1), np.uint8), MASK, ("a", "b"))
    assert is_ours(tmp_path / "o.png")
    (tmp_path / "a.json").write_text('{"segkit": "1"}')
    (tmp_path / "b.json").write_text('{"other": 1}')
    assert is_ours(tmp_path / "a.json")
    assert not is_ours(tmp_path / "b.json")
    assert not is_ours(write_series(tmp_path / "s", MASK)[0])
    assert not is_ours(tmp_path / "s")
    (tmp_path / "images" / "1-flair").mkdir(parents=True)
    (tmp_path / "images" / "1-flair" / "0001.dcm").touch()
    assert is_ours(tmp_path / "images")
    (tmp_path / "images" / "1-flair" / "notes.txt").touch()
    assert not is_ours(tmp_path / "images")
