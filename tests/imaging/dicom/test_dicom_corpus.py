"""Files that others collected because they are odd or broken: each is a scan or one line, never anything else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom.data
import pytest
from pydicom import dcmread

from segkit.errors import FileError
from segkit.imaging.read import read_scan
from segkit.imaging.window import scan_to_uint8

CORPUS = Path(pydicom.data.__file__).parent / "test_files"
FILES = sorted(path for path in CORPUS.rglob("*") if path.is_file() and path.suffix in (".dcm", ".gz", ""))


def scan_or_line(path: Path) -> str:
    try:
        scan = read_scan(path)
    except FileError as error:
        return "line" if "\n" not in str(error) else "lines"
    assert scan_to_uint8(scan).shape == (*scan.shape, 1)
    assert scan.affine is not None
    return "scan"


def test_pydicoms_own_files() -> None:
    outcomes = {path.name: scan_or_line(path) for path in FILES}
    assert len(outcomes) > 70
    scans = {name for name, outcome in outcomes.items() if outcome == "scan"}
    wanted = "CT_small MR_small MR_small_RLE MR_small_bigendian MR_small_expb MR_small_implicit MR_small_jp2klossless"
    assert {f"{name}.dcm" for name in wanted.split()} | {"MR_small_jpeg_ls_lossless.dcm", "zipMR.gz"} <= scans
    no_images = "rtplan rtstruct test-SR reportsi waveform_ecg SC_rgb_jpeg liver_1frame MR_truncated UN_sequence"
    assert not scans & {f"{name}.dcm" for name in no_images.split()}


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm"])
def test_values_are_those_that_pydicom_gives(name: str) -> None:
    dataset = dcmread(CORPUS / name)
    expected = dataset.pixel_array * float(dataset.get("RescaleSlope", 1)) + float(dataset.get("RescaleIntercept", 0))
    got = read_scan(CORPUS / name).pixels[0, ..., 0]
    padding = dataset.get("PixelPaddingValue")
    measured = np.isfinite(got) if padding is None else dataset.pixel_array != padding
    np.testing.assert_allclose(got[measured], expected[measured])


def test_the_hostile_files(shared: Path) -> None:
    files = sorted((shared / "hostile" / "dicom").iterdir())
    outcomes = {path.name: scan_or_line(path) for path in files}
    assert len(outcomes) == 17
    assert sum(outcome == "scan" for outcome in outcomes.values()) == 8


def test_a_prefix_of_any_length_is_a_scan_or_a_line(tmp_path: Path) -> None:
    content = (CORPUS / "MR_small.dcm").read_bytes()
    for length in (
        0,
        3,
        131,
        132,
        140,
        200,
        500,
        900,
        1400,
        len(content) - 9000,
        len(content) - 3000,
        len(content) - 1,
    ):
        path = tmp_path / f"{length}.dcm"
        path.write_bytes(content[:length])
        assert scan_or_line(path) in ("line", "scan")


def test_bytes_turned_over_are_a_scan_or_a_line(tmp_path: Path) -> None:
    content = (CORPUS / "MR_small.dcm").read_bytes()
    random = np.random.default_rng(0)
    path = tmp_path / "a.dcm"
    for _ in range(150):
        raw = np.frombuffer(content, np.uint8).copy()
        at = random.integers(132, 1600, 3)
        raw[at] = random.integers(0, 256, 3)
        path.write_bytes(raw.tobytes())
        assert scan_or_line(path) in ("line", "scan")
