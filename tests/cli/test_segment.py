from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from threshold_model import expected_classes, threshold_metadata, write_threshold_model

from segkit.imaging.window import to_uint8
from tests.conftest import Run, clean_environment


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_threshold_model(tmp_path / "model.onnx")


def slice_file(path: Path, *, seed: int = 0, size: int = 64) -> np.ndarray:
    """A colour slice; gives what the model says of it."""
    path.parent.mkdir(exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return expected_classes(pixels[..., 0]) * np.uint8(255)


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_a_slice_becomes_a_mask_beside_it(segkit: Run, tmp_path: Path, model: Path) -> None:
    expected = slice_file(tmp_path / "scan.tif")
    done = segkit("segment", "scan.tif", "--model", "model.onnx")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"scan_mask.tif: 64 x 64, tumour {np.count_nonzero(expected)} px\n"
    np.testing.assert_array_equal(pixels_of(tmp_path / "scan_mask.tif"), expected)


def test_without_a_model_the_packages_own_is_taken_and_named(segkit: Run, tmp_path: Path) -> None:
    slice_file(tmp_path / "scan.tif")
    done = segkit("segment", "scan.tif")
    assert done.returncode == 0
    assert done.stdout.startswith("scan_mask.tif: 64 x 64, tumor ")
    assert done.stderr.startswith("segkit: no --model: using lgg-unet-int8; ")
    assert segkit("segment", "scan.tif", "--force", "-q").stderr == ""


def test_existing_output_needs_force(segkit: Run, tmp_path: Path, model: Path) -> None:
    expected = slice_file(tmp_path / "scan.png")
    (tmp_path / "scan_mask.png").write_bytes(b"precious")
    done = segkit("segment", "scan.png", "--model", "model.onnx")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert (tmp_path / "scan_mask.png").read_bytes() == b"precious"
    forced = segkit("segment", "scan.png", "--model", "model.onnx", "--force")
    assert (forced.returncode, forced.stdout) == (2, "")
    assert "was not written by segkit" in forced.stderr
    assert (tmp_path / "scan_mask.png").read_bytes() == b"precious"

    (tmp_path / "scan_mask.png").unlink()
    for words in ([], ["--force"], ["--force"]):
        assert segkit("segment", "scan.png", "--model", "model.onnx", "-q", *words).stdout == ""
        np.testing.assert_array_equal(pixels_of(tmp_path / "scan_mask.png"), expected)


def test_force_leaves_the_reference_masks_of_a_dataset_alone(segkit: Run, tmp_path: Path, phantom: Path) -> None:
    write_threshold_model(tmp_path / "model.onnx", threshold_metadata(channels=3))
    shutil.copytree(phantom, tmp_path / "data")
    slices = sorted(path for path in (tmp_path / "data").glob("*/*.tif") if "_mask" not in path.name)
    before = {path: path.read_bytes() for path in (tmp_path / "data").glob("*/*_mask.tif")}
    done = segkit("segment", *slices[:2], "--model", "model.onnx", "--force")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert {path: path.read_bytes() for path in before} == before


def test_bad_files_do_not_stop_the_others(segkit: Run, tmp_path: Path, model: Path) -> None:
    expected = [slice_file(tmp_path / "in" / f"{name}.tif", seed=seed) for seed, name in enumerate("ac")]
    (tmp_path / "in" / "b.tif").write_bytes(b"II*\0 broken")
    done = segkit("segment", "in/*.tif", "nosuch.tif", "--model", "model.onnx", "-o", "out")
    assert done.returncode == 2
    assert [line.split(":")[1].strip() for line in done.stderr.splitlines()] == ["in/b.tif", "nosuch.tif"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a_mask.tif", "c_mask.tif"]
    for name, mask in zip("ac", expected, strict=True):
        np.testing.assert_array_equal(pixels_of(tmp_path / "out" / f"{name}_mask.tif"), mask)


def test_a_bad_model_and_a_bad_scan(segkit: Run, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    (tmp_path / "scan.tif").write_bytes(b"no scan")
    done = segkit("segment", "scan.tif", "--model", "model.onnx")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_a_folder_of_slices_is_one_scan(segkit: Run, tmp_path: Path, model: Path) -> None:
    expected = [slice_file(tmp_path / "p" / f"s_{number}.tif", seed=number) for number in (1, 2, 10)]
    done = segkit("segment", "p", "--model", "model.onnx", "--overlay", "--json", "-o", "p.tif")
    assert (done.returncode, done.stderr) == (0, "")
    with Image.open(tmp_path / "p.tif") as image:
        for page, mask in enumerate(expected):
            image.seek(page)
            np.testing.assert_array_equal(np.asarray(image), mask)
    assert (tmp_path / "p_overlay.png").is_file()
    content = json.loads((tmp_path / "p.json").read_text())
    assert content["classes"]["tumour"]["pixels"] == sum(np.count_nonzero(mask) for mask in expected)
    assert (content["classes"]["tumour"]["ml"], content["shape"]) == (None, [3, 64, 64])


def test_a_volume_keeps_its_place(segkit: Run, tmp_path: Path) -> None:
    write_threshold_model(tmp_path / "model.onnx", threshold_metadata(channels=1, classes=3, fit="pad"))
    data = np.random.default_rng(0).integers(0, 2000, (20, 30, 8)).astype(np.int16)
    affine = np.array([[0, 0, 3, 5], [-1.5, 0, 0, 6], [0, 1.5, 0, 7], [0, 0, 0, 1.0]])
    nibabel.save(nibabel.Nifti1Image(data, affine), tmp_path / "scan.nii.gz")
    done = segkit("segment", "scan.nii.gz", "--model", "model.onnx", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    mask = nibabel.load(tmp_path / "scan_mask.nii.gz")
    expected = expected_classes(to_uint8(data[..., None], keep_uint8=False)[..., 0], 3)
    np.testing.assert_array_equal(np.asarray(mask.dataobj), expected)
    assert mask.affine.tobytes() == affine.tobytes()
    content = json.loads((tmp_path / "scan_mask.json").read_text())
    millilitres = np.count_nonzero(expected == 2) * 6.75 / 1000
    assert content["classes"]["edema"]["ml"] == pytest.approx(millilitres, abs=1e-3)
    assert f"edema {millilitres:.2f} ml" in done.stdout


def test_sequences_as_channels(segkit: Run, tmp_path: Path) -> None:
    write_threshold_model(tmp_path / "model.onnx", channel=2)
    for seed, name in enumerate(("flair", "post")):
        data = np.random.default_rng(seed).integers(0, 2000, (64, 64, 3)).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(data, np.diag([-1, -1, 1, 1])), tmp_path / f"{name}.nii")
    done = segkit("segment", "--flair", "flair.nii", "--post", "post.nii", "--model", "model.onnx", "-o", "m.nii")
    assert done.returncode == 0
    assert done.stderr == "segkit: --pre is missing: FLAIR stands in for it, as in the LGG dataset\n"
    post = np.asarray(nibabel.load(tmp_path / "post.nii").dataobj)
    expected = expected_classes(to_uint8(post[..., None])[..., 0])
    np.testing.assert_array_equal(np.asarray(nibabel.load(tmp_path / "m.nii").dataobj), expected)


def test_only_the_largest_component(segkit: Run, tmp_path: Path, model: Path) -> None:
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[5:10, 5:10] = 255
    pixels[30:50, 30:50] = 255
    Image.fromarray(pixels).save(tmp_path / "scan.tif")
    assert segkit("segment", "scan.tif", "--model", "model.onnx", "--largest-component").returncode == 0
    mask = pixels_of(tmp_path / "scan_mask.tif")
    assert (np.count_nonzero(mask), mask[40, 40]) == (400, 255)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--model", "model.onnx"], "no scan is given"),
        (["scan.tif", "--model", "nosuch"], "no such model"),
        (["scan.tif", "--model", "scan.tif"], "is not an ONNX model"),
        (["scan.tif", "--model", "model.onnx", "--device", "tpu"], "auto, cpu, cuda"),
        (["scan.tif", "--model", "model.onnx", "--batch", "0"], "batch = 0"),
        (["scan.tif", "--flair", "scan.tif", "--model", "model.onnx"], "not both"),
        (["scan.tif", "--model", "model.onnx", "-o", "a.nii.gz"], "no position"),
    ],
)
def test_mistakes_are_one_line(segkit: Run, tmp_path: Path, model: Path, words: list[str], reason: str) -> None:
    slice_file(tmp_path / "scan.tif")
    done = segkit("segment", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "scan.tif"]


def test_nothing_heavy_is_imported(tmp_path: Path, model: Path) -> None:
    slice_file(tmp_path / "scan.tif")
    script = (
        "import sys, atexit\n"
        "atexit.register(lambda: print(*sorted({name.split('.')[0] for name in sys.modules})))\n"
        "sys.argv = ['segkit', 'segment', 'scan.tif', '--model', 'model.onnx', '--overlay', '--json']\n"
        "from segkit.cli.main import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    imported = set(done.stdout.splitlines()[-1].split())
    assert {"onnxruntime", "numpy", "PIL"} <= imported
    assert imported.isdisjoint({"torch", "scipy", "matplotlib", "pandas", "nibabel", "onnx"})


MEASURED = """
import resource, runpy, sys
sys.argv = ["segkit", "segment", *sys.argv[1:]]
try:
    runpy.run_module("segkit", run_name="__main__")
except SystemExit as end:
    code = end.code or 0
else:
    code = 0
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
sys.exit(code)
"""


@pytest.mark.parametrize("fit", ["scale", "pad"])
def test_odd_and_broken_files_end_in_a_mask_or_one_line(tmp_path: Path, shared: Path, fit: str) -> None:
    write_threshold_model(tmp_path / "model.onnx", threshold_metadata(fit=fit))
    # DICOM files given together are gathered into studies: tests/imaging/dicom goes through them one by one.
    files = sorted(path for path in (shared / "hostile").glob("*/*") if path.is_file() and path.parent.name != "dicom")
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *map(str, files), "--model", "model.onnx", "-o", "out"],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    *masks, peak = done.stdout.splitlines()
    errors = done.stderr.splitlines()
    assert len(files) >= 50
    assert all(line.startswith("segkit: ") for line in errors), done.stderr[-2000:]
    assert len(masks) + len(errors) == len(files)
    assert len(masks) == len(list((tmp_path / "out").iterdir())) > 20
    assert int(peak.split()[1]) < 2000
    assert done.returncode == 2
