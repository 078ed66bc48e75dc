from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segkit.errors import FileError
from segkit.imaging.read import read_scan
from segkit.imaging.write import write_mask

MASK = np.random.default_rng(0).integers(0, 3, (4, 5, 7)).astype(np.uint8)


@pytest.fixture
def pages(tmp_path: Path):
    images = [Image.new("L", (7, 5), page) for page in range(4)]
    images[0].save(tmp_path / "scan.tif", save_all=True, append_images=images[1:])
    return read_scan(tmp_path / "scan.tif")


@pytest.mark.parametrize("values", [(0, 128, 255), (0, 1000, 65535)])
def test_tiff_has_the_pages_and_the_datasets_values(tmp_path: Path, pages, values) -> None:
    write_mask(tmp_path / "m.tif", MASK, pages, values)
    with Image.open(tmp_path / "m.tif") as image:
        assert image.tag_v2[259] == 8  # deflate
        assert image.n_frames == 4
        for page in range(4):
            image.seek(page)
            np.testing.assert_array_equal(np.asarray(image), np.array(values)[MASK[page]])


def test_png_holds_one_slice(tmp_path: Path, pages) -> None:
    with pytest.raises(FileError, match="4 slices as PNG"):
        write_mask(tmp_path / "m.png", MASK, pages, (0, 1, 2))
    Image.new("L", (7, 5)).save(tmp_path / "one.png")
    write_mask(tmp_path / "m.png", MASK[:1], read_scan(tmp_path / "one.png"), (0, 1, 2))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "m.png")), MASK[0])


@pytest.mark.parametrize("name", ["m.nii.gz", "m.jpg", "m"])
def test_a_name_that_cannot_be(tmp_path: Path, pages, name: str) -> None:
    with pytest.raises(FileError):
        write_mask(tmp_path / name, MASK, pages, (0, 1, 2))
    assert [path.name for path in tmp_path.iterdir()] == ["scan.tif"]


def test_a_failure_leaves_the_old_file(tmp_path: Path, pages) -> None:
    (tmp_path / "m.tif").write_bytes(b"old")
    with pytest.raises(IndexError):
        write_mask(tmp_path / "m.tif", MASK, pages, (0, 1))  # a class without a value
    assert (tmp_path / "m.tif").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 2
