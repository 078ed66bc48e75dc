"""DICOM over HTTP: which series become the channels, the mask as a segmentation, limits, and what is refused."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from segkit.imaging.window import scan_to_uint8
from tests.serving.conftest import Server, memory_of, serving
from tests.threshold_model import expected_classes, threshold_metadata, write_threshold_model

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")

from segkit.imaging.read import read_scan  # noqa: E402
from tests.dicom_series import PATIENT, write_series, write_study  # noqa: E402


@pytest.fixture(scope="module")
def flair_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A model of three channels that looks at the second one, FLAIR."""
    folder = tmp_path_factory.mktemp("dicom")
    model = write_threshold_model(folder / "flair.onnx", threshold_metadata(), channel=1)
    with serving(folder, "--model", model, "--max-body-mb", 8, "--max-megavoxels", 1) as running:
        yield running


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of four series."""
    folder = tmp_path_factory.mktemp("study")
    write_study(folder)
    return folder


def packed(folder: Path, **more: bytes) -> bytes:
    """A folder, and more files, as a zip."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            archive.write(path, path.relative_to(folder))
        for name, content in more.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def expected(series: Path) -> NDArray[np.uint8]:
    """The mask of the model: a threshold on the windowed pixels of one series."""
    scan = read_scan(series)
    return expected_classes(scan_to_uint8(scan)[..., 0])


def test_a_study_gives_a_segmentation_that_refers_to_the_images_of_its_flair(flair_server: Server, study: Path) -> None:
    answer = flair_server.post(packed(study))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/dicom"
    found = pydicom.dcmread(io.BytesIO(answer.content))
    assert found.Modality == "SEG"
    assert found.PatientID == PATIENT["PatientID"]
    sources = {item.ReferencedSOPInstanceUID for item in found.ReferencedSeriesSequence[0].ReferencedInstanceSequence}
    files = list((study / "flair").iterdir())
    assert sources == {pydicom.dcmread(path).SOPInstanceUID for path in files}
    truth = expected(study / "flair")
    assert found.pixel_array.sum() == truth.sum()


def test_the_mask_as_nifti_and_the_measures(flair_server: Server, study: Path, tmp_path: Path) -> None:
    truth = expected(study / "flair")
    answer = flair_server.post(packed(study), accept="application/gzip")
    (tmp_path / "mask.nii.gz").write_bytes(answer.content)
    mask, flair = read_scan(tmp_path / "mask.nii.gz"), read_scan(study / "flair")
    np.testing.assert_array_equal(mask.pixels[..., 0], truth)
    np.testing.assert_allclose(mask.display_affine, flair.display_affine, atol=1e-4)
    measures = flair_server.post(packed(study), accept="application/json").json()
    assert measures["classes"]["tumour"]["pixels"] == truth.sum()
    assert [one["number"] for one in measures["series"]] == [3, 5, 9]
    assert [one["channel"] for one in measures["series"]] == ["pre", "flair", "post"]


def test_a_series_is_chosen_by_its_number(flair_server: Server, study: Path) -> None:
    measures = flair_server.post(packed(study), accept="application/json", flair="4").json()
    assert measures["classes"]["tumour"]["pixels"] == expected(study / "t2").sum()
    for pick, status in (("77", 422), ("../../etc", 400), (".", 400), ("/", 400)):
        answer = flair_server.post(packed(study), flair=pick)
        assert answer.status_code == status
    assert "3, 4, 5, 9" in flair_server.post(packed(study), flair="77").json()["error"]


def test_sequences_may_be_zips_of_series(flair_server: Server, study: Path) -> None:
    files = {"pre": packed(study / "pre"), "flair": packed(study / "t2")}
    answer = httpx.post(
        f"{flair_server.url}segment", files=files, headers={"Accept": "application/json"}, timeout=180
    ).json()
    assert answer["classes"]["tumour"]["pixels"] == expected(study / "t2").sum()
    assert any("stands in" in note for note in answer["notes"])


def test_one_file_is_one_slice(flair_server: Server, study: Path) -> None:
    file = sorted((study / "flair").iterdir())[0]
    answer = flair_server.post(file.read_bytes(), accept="application/json").json()
    assert answer["shape"] == [1, 64, 64]
    assert flair_server.post(gzip.compress(file.read_bytes())).status_code == 415


def test_what_is_not_one_study_is_refused(flair_server: Server, study: Path, tmp_path: Path) -> None:
    write_series(tmp_path / "both" / "a", np.zeros((3, 64, 64), np.int16))
    write_series(tmp_path / "both" / "b", np.zeros((3, 64, 64), np.int16), study="1.2.3")
    answer = flair_server.post(packed(tmp_path / "both"))
    assert (answer.status_code, answer.json()["error"]) == (422, "the scan holds 2 studies; send one of them")
    answer = flair_server.post(b"\0" * 128 + b"DICM" + b"\xff" * 400)
    assert answer.status_code == 415


def test_the_mask_as_tiff_has_a_page_for_each_slice(flair_server: Server, study: Path) -> None:
    answer = flair_server.post(packed(study), accept="image/tiff")
    pages = ImageSequence.all_frames(Image.open(io.BytesIO(answer.content)))
    np.testing.assert_array_equal([np.asarray(page) > 0 for page in pages], expected(study / "flair") > 0)


def test_archives_within_the_archive_are_not_opened(flair_server: Server, study: Path) -> None:
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.dcm", bytes(2**24))
    answer = flair_server.post(packed(study, **{"more.zip": bomb.getvalue(), "z.gz": gzip.compress(bytes(2**24))}))
    assert answer.status_code == 200


def test_a_study_that_claims_to_be_huge_is_refused_by_its_headers(flair_server: Server, tmp_path: Path) -> None:
    (file,) = write_series(tmp_path, np.zeros((1, 64, 64), np.int16))
    header = pydicom.dcmread(file)
    header.Rows = header.Columns = 8192
    header.save_as(file)
    before = memory_of(flair_server.process.pid)
    answer = flair_server.post(file.read_bytes())
    assert answer.status_code == 413
    assert "8192 x 8192" in answer.json()["error"]
    assert memory_of(flair_server.process.pid) < before + 2**25


def test_slices_far_apart_ask_for_no_memory(flair_server: Server, tmp_path: Path) -> None:
    files = write_series(tmp_path, np.zeros((6, 64, 64), np.int16))
    far = pydicom.dcmread(files[-1])
    far.ImagePositionPatient = [-10, -20, 3e9]
    far.save_as(files[-1])
    answer = flair_server.post(packed(tmp_path))
    assert answer.status_code == 422
    assert "uneven" in answer.json()["error"]


def test_no_word_of_the_patient_reaches_the_logs(flair_server: Server, study: Path) -> None:
    flair_server.post(packed(study))
    said = (flair_server.folder / "out").read_text() + flair_server.errors()
    assert '"format": "dicom"' in said
    for word in (*PATIENT.values(), "flair.dcm", ".dcm"):
        assert word not in said
