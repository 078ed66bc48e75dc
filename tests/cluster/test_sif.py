"""The SIFs in the hands of a user without rights, home and network, who sees one folder of the host."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from containers import SHUT, apptainer, as_user, give
from PIL import Image
from threshold_model import expected_classes, write_threshold_model

from segkit import __version__

SMALL = ["--width", "4", "--batch", "8", "--workers", "0"]


def write_scan(path: Path, size: int = 64) -> np.ndarray:
    """A colour slice; gives the mask that the threshold model has for it."""
    pixels = np.random.default_rng(3).integers(0, 256, (size, size, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return expected_classes(pixels[..., 0]) * np.uint8(255)


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_the_whole_job_in_the_training_image(train_sif: Path, infer_sif: Path, folder: Path) -> None:
    # What is written elsewhere than in the folder would lie in one of these, all that such a container can write to.
    elsewhere = "find / -xdev -type f -newer /tmp/start; find /tmp /var/tmp /dev/shm /run -type f ! -name start"
    job = (
        "touch /tmp/start && segkit data phantom phantom --patients 8 --slices 6 --size 64"
        f" && segkit train --data phantom --model unet --run runs/unet --epochs 2 {' '.join(SMALL)}"
        " && segkit export runs/unet -o exported.onnx"
        f" && segkit profile --data phantom --model unet --seconds 0.5 --counts 0,1 -o profile {' '.join(SMALL)}"
        f" && {{ {elsewhere}; }} > elsewhere.txt 2> /dev/null"
    )
    shown = ("--bind", f"{folder}:/data", "--pwd", "/data", "--env", "SEGKIT_CACHE=/data/cache")
    done = apptainer("exec", train_sif, "sh", "-c", job, folder=folder, options=shown)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert (folder / "elsewhere.txt").read_text() == ""
    assert len((folder / "runs/unet/metrics.jsonl").read_text().splitlines()) == 2
    assert {"report.html", "run.json"} <= {path.name for path in (folder / "runs/unet").iterdir()}
    assert (folder / "profile/report.html").is_file()
    assert {path.name for path in folder.iterdir() if path.name != "elsewhere.txt"} == {
        *("phantom", "runs", "exported.onnx", "profile", "cache")
    }
    assert not (folder / "runs/.segkit-cache").exists()

    # The image without PyTorch, and the package outside, segment with the model as the training image does.
    scan = next(path for path in sorted(folder.glob("phantom/*/*.tif")) if "mask" not in path.name)
    masks = []
    for number, sif in enumerate((train_sif, infer_sif)):
        name = f"scan{number}.tif"
        (folder / name).write_bytes(scan.read_bytes())
        done = apptainer("run", sif, "segment", name, "--model", "exported.onnx", folder=folder)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        masks.append(pixels_of(folder / f"scan{number}_mask.tif"))
    np.testing.assert_array_equal(masks[0], masks[1])


@pytest.mark.parametrize("image", ["infer_sif", "defined_sif"])
def test_segment_gives_the_mask_it_should(image: str, folder: Path, request: pytest.FixtureRequest) -> None:
    sif = request.getfixturevalue(image)
    write_threshold_model(folder / "model.onnx")
    names = ["scan.tif", "a b $(touch made) 'c' \"d\" `touch made` *.tif"]
    masks = [write_scan(folder / name) for name in names]
    give(folder)
    done = apptainer("run", sif, "segment", *names, "--model", "model.onnx", folder=folder)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    for name, mask in zip(names, masks, strict=True):
        np.testing.assert_array_equal(pixels_of(folder / name.replace(".tif", "_mask.tif")), mask)
    assert not (folder / "made").exists()


def test_a_place_that_is_not_bound_is_one_line_that_names_the_bind(defined_sif: Path, folder: Path) -> None:
    write_threshold_model(folder / "model.onnx")
    write_scan(folder / "scan.tif")
    give(folder)
    bare = apptainer("run", defined_sif, "data", "phantom", "phantom", folder=folder, options=("--pwd", "/data"))
    bound = ("--bind", f"{folder}:/scans:ro", "--pwd", "/scans")
    beside = apptainer("run", defined_sif, "segment", "scan.tif", "--model", "model.onnx", folder=folder, options=bound)
    for done, place in ((bare, "/data"), (beside, "/scans")):
        assert done.returncode == 2, done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
        assert f"--bind HOST_FOLDER:{place}" in done.stderr
    assert {path.name for path in folder.iterdir()} == {"model.onnx", "scan.tif"}


def test_the_host_s_python_stays_outside(defined_sif: Path, folder: Path) -> None:
    (folder / "numpy.py").write_text("raise SystemExit('the wrong numpy')")
    write_threshold_model(folder / "model.onnx")
    write_scan(folder / "scan.tif")
    give(folder)
    environment = {"PYTHONPATH": str(folder), "PYTHONHOME": str(folder), "PYTHONSTARTUP": str(folder / "numpy.py")}
    done = as_user(
        "apptainer", "run", defined_sif, "segment", "scan.tif", "--model", "model.onnx", cwd=folder, **environment
    )
    assert done.returncode == 0, done.stderr
    assert "scan_mask.tif" in done.stdout


ASK = """
import json, sys, time, urllib.request as web
for _ in range(100):
    try:
        web.urlopen("http://127.0.0.1:8000/v2/health/ready"); break
    except OSError:
        time.sleep(0.1)
scan = open("scan.tif", "rb").read()
open("answer.tif", "wb").write(web.urlopen(web.Request("http://127.0.0.1:8000/segment", data=scan)).read())
"""


@pytest.mark.parametrize("image", ["train_sif", "defined_sif"])
def test_serve_as_an_instance_answers(image: str, folder: Path, request: pytest.FixtureRequest) -> None:
    sif = request.getfixturevalue(image)
    write_threshold_model(folder / "model.onnx")
    mask = write_scan(folder / "scan.tif")
    give(folder)
    name = f"segkit-{time.time_ns()}"
    # A definition has a start script of its own; an image of Docker's has its program, which `instance run` starts.
    verb, words = ("start", [name]) if image == "defined_sif" else ("run", [name, "serve"])
    shown = [*SHUT, "--bind", f"{folder}:/data"]
    command = ["apptainer", "instance", verb, *shown, sif, *words, "--model", "/data/model.onnx"]
    # Apptainer keeps its list of instances in a folder of the user's, which has to be somewhere.
    where = {"APPTAINER_CONFIGDIR": str(folder), "HOME": str(folder)}
    started = as_user(*command, cwd=folder, **where)
    assert started.returncode == 0, started.stderr
    try:
        asked = as_user(
            "apptainer", "exec", "--pwd", "/data", f"instance://{name}", "python", "-c", ASK, cwd=folder, **where
        )
        assert asked.returncode == 0, asked.stderr
    finally:
        as_user("apptainer", "instance", "stop", name, cwd=folder, **where)
    np.testing.assert_array_equal(pixels_of(folder / "answer.tif"), mask)


@pytest.mark.parametrize(("image", "bar"), [("infer_sif", 300), ("defined_sif", 150)])
def test_the_images_without_pytorch_are_small(image: str, bar: int, request: pytest.FixtureRequest) -> None:
    assert request.getfixturevalue(image).stat().st_size < bar * 1_000_000


@pytest.mark.parametrize("image", ["train_sif", "infer_sif", "defined_sif"])
def test_a_sif_says_what_it_is(image: str, folder: Path, request: pytest.FixtureRequest) -> None:
    sif = request.getfixturevalue(image)
    labels = json.loads(as_user("apptainer", "inspect", "--json", "--labels", sif, cwd=folder).stdout)
    labels = labels["data"]["attributes"]["labels"]
    assert labels["org.opencontainers.image.version"] == __version__
    assert len(labels["org.opencontainers.image.revision"]) == 40
    done = apptainer("run", sif, "--version", folder=folder)
    assert (done.returncode, done.stdout) == (0, f"{__version__}\n")


def test_a_defined_image_tests_and_explains_itself(defined_sif: Path, folder: Path) -> None:
    done = apptainer("test", defined_sif, folder=folder)
    assert done.returncode == 0, done.stderr
    assert __version__ in done.stdout
    told = as_user("apptainer", "run-help", defined_sif, cwd=folder).stdout
    assert "apptainer run --nv segkit.sif train" in told
