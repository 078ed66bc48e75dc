"""The report on a dataset, against counts made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segkit.data.inspect import inspect
from segkit.data.layouts import find_cases

RNG = np.random.default_rng(0)


def write_patient(root: Path, patient: str, tumours: list[int], equal: tuple[tuple[int, int], ...] = ()) -> None:
    """Slices of 10 x 8 with so many tumour pixels; `equal` copies channel b into channel a."""
    (root / patient).mkdir(parents=True)
    for k, tumour in enumerate(tumours, start=1):
        image = RNG.integers(0, 256, (8, 10, 3), dtype=np.uint8)
        for a, b in equal:
            image[..., a] = image[..., b]
        mask = np.zeros(80, np.uint8)
        mask[:tumour] = 255
        Image.fromarray(image).save(root / patient / f"{patient}_{k}.tif")
        Image.fromarray(mask.reshape(8, 10)).save(root / patient / f"{patient}_{k}_mask.tif")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_patient(tmp_path, "TCGA_CS_1_1", [0, 4, 16, 0])
    write_patient(tmp_path, "TCGA_DU_2_1", [0, 0, 20], equal=((2, 1),))
    write_patient(tmp_path, "TCGA_DU_3_1", [0], equal=((0, 1), (2, 1)))
    return tmp_path


def test_counts(folder: Path) -> None:
    report = inspect(find_cases(folder), workers=2)
    assert (report.patients, report.slices, report.institutions) == (3, 8, {"DU": 2, "CS": 1})
    assert report.sizes == {"10 x 8": 8}
    assert report.foreground_slices == 3
    assert report.foreground_share == 40 / 640
    tumour = report.classes[1]
    assert (tumour.name, tumour.value, tumour.pixels, tumour.slices) == ("tumor", 255, 40, 3)
    assert (tumour.slice_share, tumour.patients, tumour.smallest) == (3 / 8, 2, 4)
    assert report.problems == ()


def test_copied_channels_are_told_by_patient(folder: Path) -> None:
    report = inspect(find_cases(folder))
    assert report.copies == {"FLAIR = post": ("TCGA_DU_2_1",), "pre = FLAIR = post": ("TCGA_DU_3_1",)}
    # Equal in all slices but one is no copy.
    path = folder / "TCGA_DU_2_1" / "TCGA_DU_2_1_3.tif"
    pixels = np.array(Image.open(path))
    pixels[0, 0, 2] ^= 1
    Image.fromarray(pixels).save(path)
    assert inspect(find_cases(folder)).copies == {"pre = FLAIR = post": ("TCGA_DU_3_1",)}


def test_every_unusable_file_is_named(folder: Path) -> None:
    patient = folder / "TCGA_CS_1_1"
    (patient / "TCGA_CS_1_1_1_mask.tif").unlink()
    Image.new("L", (10, 8), 77).save(patient / "TCGA_CS_1_1_2_mask.tif")
    cut = patient / "TCGA_CS_1_1_4.tif"
    cut.write_bytes(cut.read_bytes()[:-9])
    report = inspect(find_cases(folder))
    assert [Path(problem.split(": ")[0]).name for problem in report.problems] == [
        "TCGA_CS_1_1_1.tif",
        "TCGA_CS_1_1_2_mask.tif",
        "TCGA_CS_1_1_4.tif",
    ]
    assert report.slices == 5
    assert "3 problems" in report.as_text()


def test_text_and_json_say_the_same(folder: Path) -> None:
    report = inspect(find_cases(folder))
    value = json.loads(json.dumps(report.as_json()))
    assert value["patients"] == 3
    assert value["classes"][1]["pixels"] == 40
    text = report.as_text()
    for part in (
        "3 (DU 2, CS 1)",
        "10 x 8",
        "FLAIR = post in 1 patient (TCGA_DU_2_1)",
        "6.25%",
        "no problems",
    ):
        assert part in text


def test_a_channel_that_is_constant(tmp_path: Path) -> None:
    write_patient(tmp_path, "A_BB_1", [1])
    path = tmp_path / "A_BB_1" / "A_BB_1_1.tif"
    pixels = np.array(Image.open(path))
    pixels[..., 0] = 0
    Image.fromarray(pixels).save(path)
    assert inspect(find_cases(tmp_path)).empty_channels == {"pre": ("A_BB_1",)}
