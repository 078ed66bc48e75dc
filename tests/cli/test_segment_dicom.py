from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from dicom_series import PATIENT, write_series, write_study
from PIL import Image
from pydicom import dcmread
from threshold_model import expected_classes, threshold_metadata, write_threshold_model

from segkit.imaging.window import to_uint8
from tests.conftest import Run, clean_environment

SECRETS = [part.lower() for value in PATIENT.values() for part in value.split("^") if len(part) > 2]


@pytest.fixture
def voxels(tmp_path: Path) -> dict[str, np.ndarray]:
    """A study in files named after its patient, and a model that looks at the third channel."""
    metadata = replace(
        threshold_metadata(fit="pad"), channels=("pre", "FLAIR", "post"), classes=("background", "tumour")
    )
    write_threshold_model(tmp_path / "model.onnx", metadata, channel=2)
    return write_study(tmp_path / "study")


def expected_mask(voxels: np.ndarray) -> np.ndarray:
    """What the model says of `[slice, row, column]`."""
    return expected_classes(to_uint8(voxels[..., None])[..., 0])


def test_a_study_becomes_masks_in_its_place(segkit: Run, tmp_path: Path, voxels: dict[str, np.ndarray]) -> None:
    done = segkit("segment", "study", "--model", "model.onnx", "--overlay", "--json", "--sr", "-o", "out")
    assert (done.returncode, done.stderr) == (0, "")
    chosen, line = done.stdout.splitlines()
    assert chosen == "T1 before contrast: series 3, FLAIR: series 5, T1 after contrast: series 9"
    assert line.startswith("out/series-5_mask.nii.gz, out/series-5_seg.dcm: 64 x 64 x 4, tumour ")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    kinds = ["mask.json", "mask.nii.gz", "overlay.png", "planes.png", "seg.dcm", "sr.dcm"]
    assert names == [f"series-5_{kind}" for kind in kinds]

    mask = nibabel.load(tmp_path / "out/series-5_mask.nii.gz")
    expected = expected_mask(voxels["post"])
    np.testing.assert_array_equal(np.asarray(mask.dataobj).transpose(2, 1, 0), expected)
    np.testing.assert_allclose(mask.affine, [[-1, 0, 0, 10], [0, -1, 0, 20], [0, 0, 3, 30], [0, 0, 0, 1]])
    seg = dcmread(tmp_path / "out/series-5_seg.dcm")
    source = dcmread(next((tmp_path / "study/flair").iterdir()))
    assert seg.pixel_array.sum() == expected.sum()
    assert seg.StudyInstanceUID == source.StudyInstanceUID
    content = json.loads((tmp_path / "out/series-5_mask.json").read_text())
    assert content["study_uid"] == source.StudyInstanceUID
    assert [one["number"] for one in content["series"]] == [3, 5, 9]
    assert content["classes"]["tumour"]["ml"] == pytest.approx(expected.sum() * 3 / 1000)
    lesions = content["classes"]["tumour"]["lesions"]
    assert lesions[0]["pixels"] == content["classes"]["tumour"]["largest_component_pixels"]
    assert lesions[0]["longest_diameter_mm"] > 60
    with Image.open(tmp_path / "out/series-5_planes.png") as picture:
        assert picture.width > 600
    # Nothing of the patient outside the DICOM objects.
    said = (done.stdout + done.stderr + " ".join(names) + json.dumps(content)).lower()
    assert not [secret for secret in SECRETS if secret in said]


def test_archives_and_files_in_any_order_are_the_same_study(segkit: Run, tmp_path: Path, voxels) -> None:
    segkit("segment", "study", "--model", "model.onnx", "-o", "a.nii.gz")
    with zipfile.ZipFile(tmp_path / "Szabo_Ilona.zip", "w") as archive:
        for file in (tmp_path / "study").rglob("*.dcm"):
            archive.write(file, f"Szabo/{file.parent.name}/{file.name}")
    files = sorted((tmp_path / "study").rglob("*.dcm"), reverse=True)
    segkit("segment", "Szabo_Ilona.zip", "--model", "model.onnx", "-o", "b.nii.gz")
    segkit("segment", *files, "--model", "model.onnx", "-o", "c.nii.gz")
    reference = (tmp_path / "a.nii.gz").read_bytes()
    assert reference == (tmp_path / "b.nii.gz").read_bytes() == (tmp_path / "c.nii.gz").read_bytes()
    done = segkit("segment", "Szabo_Ilona.zip", "--model", "model.onnx")
    assert (done.returncode, (tmp_path / "series-5_seg.dcm").exists()) == (0, True)


def test_series_are_picked_by_number_or_folder(segkit: Run, tmp_path: Path, voxels) -> None:
    picked = segkit("segment", "study", "--post", "4", "--model", "model.onnx", "-o", "a.nii.gz")
    assert "T1 after contrast: series 4" in picked.stdout
    mask = np.asarray(nibabel.load(tmp_path / "a.nii.gz").dataobj).transpose(2, 1, 0)
    np.testing.assert_array_equal(mask, expected_mask(voxels["t2"]))
    folders = segkit(
        "segment", "--flair", "study/flair", "--post", "study/t2", "--model", "model.onnx", "-o", "b.nii.gz"
    )
    assert folders.stderr.count("FLAIR stands in for it") == 1
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    assert (
        "there are the numbers 3, 4, 5, 9" in segkit("segment", "study", "--pre", "7", "--model", "model.onnx").stderr
    )


def test_a_name_that_ends_with_dcm_is_the_segmentation_alone(segkit: Run, tmp_path: Path, voxels) -> None:
    assert segkit("segment", "study", "--model", "model.onnx", "-o", "mine.dcm", "-q").returncode == 0
    assert dcmread(tmp_path / "mine.dcm").Modality == "SEG"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.dcm", "model.onnx", "study"]
    again = segkit("segment", "study", "--model", "model.onnx", "-o", "mine.dcm")
    assert (again.returncode, "mine.dcm: exists; --force overwrites" in again.stderr) == (2, True)
    assert segkit("segment", "study", "--model", "model.onnx", "-o", "mine.dcm", "--force").returncode == 0
    shutil.copy(next((tmp_path / "study/flair").iterdir()), tmp_path / "other.dcm")
    foreign = segkit("segment", "study", "--model", "model.onnx", "-o", "other.dcm", "--force")
    assert "was not written by segkit" in foreign.stderr
    assert segkit("segment", "study", "--model", "model.onnx", "-o", "p1_mask.nii.gz", "-q").returncode == 0
    assert not (tmp_path / "p1_seg.dcm").exists()
    picture = segkit("segment", "study", "--model", "model.onnx", "-o", "mask.png")
    assert picture.stderr == "segkit: mask.png: cannot hold 4 slices as PNG; end it with .tif\n"


def test_anonymised_output_has_no_patient(segkit: Run, tmp_path: Path, voxels) -> None:
    words = ["--anonymise", "--sr", "--json", "--overlay", "-o", "out"]
    done = segkit("segment", "study", "--model", "model.onnx", *words)
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)
    assert "leaves the pixels as they are, and the images do not say whether text is burned into them" in done.stderr
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(files) == 6 + 12
    source = dcmread(next((tmp_path / "study/flair").iterdir()))
    secrets = [*SECRETS, str(source.StudyInstanceUID), str(source.SeriesInstanceUID), str(source.FrameOfReferenceUID)]
    for file in files:
        assert not [secret for secret in secrets if secret.encode() in file.read_bytes().lower()], file.name
    seg = dcmread(tmp_path / "out/series-5_seg.dcm")
    content = json.loads((tmp_path / "out/series-5_mask.json").read_text())
    assert content["study_uid"] == seg.StudyInstanceUID
    assert content["series"][1]["uid"] == seg.ReferencedSeriesSequence[0].SeriesInstanceUID
    # Descriptions are gone with the patient, so the copies say in their folders' names what they are.
    images = tmp_path / "out/series-5_images"
    words = [word for role in ("pre", "flair", "post") for word in (f"--{role}", next(images.glob(f"*-{role}")))]
    again = segkit("segment", images, *words, "--model", "model.onnx", "-o", "again.nii.gz")
    assert (again.returncode, again.stderr) == (0, "")
    assert (tmp_path / "again.nii.gz").read_bytes() == (tmp_path / "out/series-5_mask.nii.gz").read_bytes()


def test_nothing_is_written_where_text_is_burned_in(segkit: Run, tmp_path: Path, voxels) -> None:
    for file in (tmp_path / "study/post").iterdir():
        dataset = dcmread(file)
        dataset.BurnedInAnnotation = "YES"
        dataset.save_as(file)
    done = segkit("segment", "study", "--model", "model.onnx", "--anonymise", "-o", "out")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "series 9: has text burned into its pixels" in done.stderr
    assert not (tmp_path / "out").exists()
    assert segkit("segment", "study", "--model", "model.onnx", "-o", "out").returncode == 0


def test_the_folder_of_a_patient_is_in_no_file(segkit: Run, tmp_path: Path, voxels) -> None:
    home = tmp_path / "Szabo_Ilona"
    shutil.move(tmp_path / "study", home / "ID-4711-X")
    done = segkit("segment", home / "ID-4711-X", "--model", "model.onnx", "--json", "--overlay")
    assert done.returncode == 0, done.stderr
    assert json.loads((home / "series-5_mask.json").read_text())["mask"] == "series-5_mask.nii.gz"
    for file in home.glob("series-5_*"):
        content = file.read_bytes().lower()
        assert file.suffix == ".dcm" or not [secret for secret in SECRETS if secret.encode() in content], file.name


def test_no_mask_is_where_no_image_is(segkit: Run, tmp_path: Path, voxels) -> None:
    """A slice is missing: the NIfTI mask, the segmentation and the measures have the same voxels all the same."""
    metadata = replace(threshold_metadata(channels=1, fit="pad"), classes=("background", "tumour"))
    write_threshold_model(tmp_path / "one.onnx", metadata)
    shutil.rmtree(tmp_path / "study")
    write_series(tmp_path / "study", np.repeat(voxels["flair"][:1], 5, 0), skip=(2,))
    done = segkit("segment", "study", "--model", "one.onnx", "--smooth", "1", "--json", "-o", "out")
    assert "1 slice is missing, between instances 2 and 4" in done.stderr
    mask = np.asarray(nibabel.load(tmp_path / "out/series-1_mask.nii.gz").dataobj)
    areas = mask.any(axis=(0, 1)).tolist()
    assert areas == [True, True, False, True, True]
    count = int(np.count_nonzero(mask))
    assert dcmread(tmp_path / "out/series-1_seg.dcm").pixel_array.sum() == count
    assert json.loads((tmp_path / "out/series-1_mask.json").read_text())["classes"]["tumour"]["pixels"] == count


def test_two_studies_get_a_number_each(segkit: Run, tmp_path: Path, voxels) -> None:
    write_series(tmp_path / "study/other", voxels["flair"], study="1.2.3", number=5)
    done = segkit("segment", "study", "--model", "model.onnx", "-o", "out")
    assert done.returncode == 0
    masks = sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz"))
    assert masks == ["study-1-series-5_mask.nii.gz", "study-2-series-5_mask.nii.gz"]


def test_a_broken_study_does_not_stop_the_others(segkit: Run, tmp_path: Path, voxels) -> None:
    (tmp_path / "bad.dcm").write_bytes(bytes(128) + b"DICM" + bytes(300))
    nibabel.save(nibabel.Nifti1Image(voxels["flair"].T, np.eye(4)), tmp_path / "a.nii")
    done = segkit("segment", "a.nii", "study", "bad.dcm", "--model", "model.onnx", "-o", "out")
    assert done.returncode == 0, done.stderr  # one file of the heap is no image; that is said
    assert "1 file" in done.stderr
    alone = segkit("segment", "bad.dcm", "a.nii", "--model", "model.onnx", "-o", "two")
    assert (alone.returncode, alone.stderr.count("\n")) == (2, 1)
    assert [path.name for path in (tmp_path / "two").iterdir()] == ["a_mask.nii.gz"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["a.nii", "--flair", "3"], "not both"),
        (["a.nii", "--sr"], "are for DICOM"),
        (["a.nii", "--plane", "oblique"], "auto, axial, coronal, sagittal"),
        (["a.nii", "--smooth", "-1"], "smooth = -1"),
        (["a.nii", "--threshold", "1.5"], "threshold = 1.5"),
        (["a.nii", "--min-lesion", "101%"], "min_lesion = '101%'"),
        (["a.nii", "--min-lesion", "big"], "0.1ml"),
        (["four.nii"], "--volume 0 to --volume 4"),
    ],
)
def test_mistakes_are_one_line(segkit: Run, tmp_path: Path, voxels, words: list[str], reason: str) -> None:
    nibabel.save(nibabel.Nifti1Image(voxels["flair"].T, np.eye(4)), tmp_path / "a.nii")
    nibabel.save(nibabel.Nifti1Image(np.zeros((9, 9, 4, 5), np.int16), np.eye(4)), tmp_path / "four.nii")
    done = segkit("segment", *words, "--model", "model.onnx")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert reason in done.stderr


def test_small_lesions_go_by_volume_and_lone_slices_by_smoothing(segkit: Run, tmp_path: Path) -> None:
    write_threshold_model(tmp_path / "model.onnx", threshold_metadata(channels=1, fit="pad"))
    data = np.zeros((40, 40, 9), np.int16)
    data[5:15, 5:15, 2:8] = 1000  # 600 voxels
    data[30:33, 30:33, 4] = 1000  # 9 voxels of 2 mm3
    nibabel.save(nibabel.Nifti1Image(data, np.diag([1, 1, 2, 1])), tmp_path / "a.nii")
    for words in (["--min-lesion", "0.02ml"], ["--min-lesion", "10"], ["--smooth", "1"]):
        assert segkit("segment", "a.nii", "--model", "model.onnx", "-o", "m.nii", "--force", *words).returncode == 0
        mask = np.asarray(nibabel.load(tmp_path / "m.nii").dataobj)
        assert mask[10, 10, 5] == 1
        assert not mask[31, 31].any()
    segkit("segment", "a.nii", "--model", "model.onnx", "-o", "m.nii", "--force", "--min-lesion", "0.01ml")
    assert np.asarray(nibabel.load(tmp_path / "m.nii").dataobj)[31, 31].any()


def test_dicom_libraries_are_imported_for_dicom_only(tmp_path: Path, voxels) -> None:
    nibabel.save(nibabel.Nifti1Image(voxels["flair"].T, np.eye(4)), tmp_path / "a.nii")
    script = (
        "import sys, atexit\n"
        "atexit.register(lambda: print(*sorted(name for name, module in sys.modules.items() if module)))\n"
        "sys.argv = ['segkit', 'segment', 'a.nii', '--model', 'model.onnx', '--json']\n"
        "from segkit.cli.main import main\n"
        "main()\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, check=True)
    imported = set(done.stdout.splitlines()[-1].split())
    assert imported.isdisjoint({"pydicom", "highdicom", "gdcm", "torch", "dicomanonymizer"})


def test_hostile_files_are_masks_or_one_line_each(tmp_path: Path, shared: Path) -> None:
    """In one process, because seventeen starts take long; each file as a call of its own."""
    write_threshold_model(tmp_path / "model.onnx", threshold_metadata(fit="pad"))
    script = (
        "import sys\n"
        "from segkit.cli.plain import run\n"
        "from segkit.cli.segment import segment\n"
        "from segkit.errors import SegkitError\n"
        "for number, file in enumerate(sys.argv[1:]):\n"
        "    try:\n"
        "        run(segment, [file, '--model', 'model.onnx', '-o', f'out/{number}'])\n"
        "    except SegkitError as error:\n"
        "        print('segkit:', error, file=sys.stderr)\n"
        "    except SystemExit:\n"
        "        pass\n"
    )
    files = sorted((shared / "hostile" / "dicom").iterdir())
    command = [sys.executable, "-c", script, *map(str, files)]
    done = subprocess.run(command, cwd=tmp_path, env=clean_environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stderr.splitlines()
    assert all(line.startswith("segkit: ") for line in lines), done.stderr[-2000:]
    errors = [line for line in lines if "hostile" in line]
    masks = list((tmp_path / "out").glob("*/*_seg.dcm"))
    assert len(masks) == 8
    assert len(masks) + len(errors) == len(files)


def test_without_the_extra_there_is_one_line(tmp_path: Path, voxels) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    # An environment whose site-packages lack pydicom: the finder leaves it out.
    (hidden / "sitecustomize.py").write_text(
        "import sys\n"
        "from importlib.machinery import PathFinder\n"
        "find = PathFinder.find_spec\n"
        "def without(name, path=None, target=None):\n"
        "    return None if name == 'pydicom' else find(name, path, target)\n"
        "PathFinder.find_spec = without\n"
    )
    environment = clean_environment()
    environment["PYTHONPATH"] = f"{hidden}:{environment['PYTHONPATH']}"
    command = [sys.executable, "-m", "segkit", "segment", "study", "--model", "model.onnx"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "DICOM needs the package pydicom; pip install 'segkit[dicom]'" in done.stderr


def test_inspect_shows_what_would_be_chosen(segkit: Run, tmp_path: Path, voxels) -> None:
    done = segkit("data", "inspect", "study")
    assert (done.returncode, done.stderr) == (0, "")
    assert "layout      dicom, 1 study" in done.stdout
    for words in ("T1 before contrast", "FLAIR", "T1 after contrast"):
        assert words in done.stdout
    content = json.loads(segkit("data", "inspect", "study", "--json").stdout)
    assert [one["role"] for one in content["studies"][0]["series"]] == ["pre", "", "flair", "post"]
    assert segkit("data", "inspect", "nothing").returncode == 2


def test_the_real_study_end_to_end(segkit: Run, tmp_path: Path, shared: Path) -> None:
    metadata = replace(threshold_metadata(fit="pad"), channels=("pre", "FLAIR", "post"))
    write_threshold_model(tmp_path / "model.onnx", metadata, channel=1)
    with tarfile.open(shared / "dicom" / "study.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    done = segkit("segment", "study", "--model", "model.onnx", "-o", "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert "T1 before contrast: series 26401, FLAIR: series 36468, T1 after contrast: series 11" in done.stdout
    mask = nibabel.load(tmp_path / "out/series-36468_mask.nii.gz")
    stored = np.zeros(mask.shape[::-1], np.uint8)
    flair = [dcmread(file) for file in (tmp_path / "study/flair").iterdir()]
    flair.sort(key=lambda image: float(image.ImagePositionPatient[2]))
    stored = np.stack([image.pixel_array for image in flair])
    expected = expected_classes(to_uint8(stored[..., None])[..., 0])
    np.testing.assert_array_equal(np.asarray(mask.dataobj).transpose(2, 1, 0), expected)
    seg = dcmread(tmp_path / "out/series-36468_seg.dcm")
    assert seg.pixel_array.sum() == expected.sum()


def test_real_volumes_become_masks_or_one_line(segkit: Run, tmp_path: Path, shared: Path) -> None:
    write_threshold_model(tmp_path / "model.onnx", threshold_metadata())
    files = sorted((shared / "nifti").glob("*.nii*"))
    done = segkit("segment", *files, "--model", "model.onnx", "-o", "out")
    masks = {path.name for path in (tmp_path / "out").iterdir()}
    lines = [line for line in done.stderr.splitlines() if "volumes along its axis" in line]
    assert len(masks) + len(lines) == len(files)
    for file in files:
        name = f"{file.name.removesuffix('.gz').removesuffix('.nii')}_mask.nii.gz"
        if name in masks:
            mask, image = nibabel.load(tmp_path / "out" / name), nibabel.load(file)
            assert mask.affine.tobytes() == image.affine.tobytes()
            assert mask.shape == image.shape
    four = next(file for file in files if "example4d" in file.name)
    assert segkit("segment", four, "--volume", "1", "--model", "model.onnx", "-o", "v.nii.gz").returncode == 0
    assert nibabel.load(tmp_path / "v.nii.gz").shape == nibabel.load(four).shape[:3]
