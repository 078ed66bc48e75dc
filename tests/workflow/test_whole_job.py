"""The user's path, as processes: train, evaluate, export, segment."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import nibabel
import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from segkit.model_metadata import ModelMetadata
from segkit.training.checkpoint import load_deployed
from segkit.training.config import TrainConfig
from tests.conftest import Run


def test_the_run_directory_holds_all_that_later_verbs_need(trained: Path, phantom: Path) -> None:
    files = {path.relative_to(trained).as_posix() for path in trained.rglob("*") if path.is_file()}
    assert files == {
        "run.json",
        "config.toml",
        "split.json",
        "metrics.jsonl",
        "checkpoints/last.pt",
        "checkpoints/best.pt",
        "profile/steps-rank0.jsonl",
        "profile/phases-rank0.jsonl",
        "profile/rank0.json",
        "profile/job.json",
        f"profile/host-{socket.gethostname()}.jsonl",
        f"profile/sampler-{socket.gethostname()}.json",
        "report.html",
        "evaluation.json",
        "evaluation.md",
        "model.onnx",
    }
    config = TrainConfig.load(trained / "config.toml")
    assert (config.model.model, config.model.width, config.data.size) == ("unet", 2, 64)
    assert Path(config.data.data) == phantom
    assert "auto" not in (config.system.device, config.system.precision, config.data.fit)
    record = json.loads((trained / "run.json").read_text())
    assert record["state"] == "finished"
    assert record["packages"]["torch"] == torch.__version__


def test_the_onnx_model_carries_its_story(trained: Path) -> None:
    model = onnx.load(trained / "model.onnx")
    metadata = ModelMetadata.from_props({prop.key: prop.value for prop in model.metadata_props})
    assert metadata.classes == ("background", "tumor")
    assert metadata.mask_values == (0, 255)
    assert metadata.split_sha256 == json.loads((trained / "split.json").read_text())["sha256"]
    assert metadata.run_id == json.loads((trained / "run.json").read_text())["run_id"]
    evaluation = json.loads((trained / "evaluation.json").read_text())
    assert metadata.metrics["test"]["pooled_dice"] == evaluation["figures"]["pooled_dice"]["value"]
    assert metadata.metrics["parity"]["agreement"] >= 0.9999


def test_the_exported_model_gets_the_figures_of_the_run(segkit: Run, trained: Path, tmp_path: Path) -> None:
    done = segkit("evaluate", trained / "model.onnx", "-o", tmp_path / "onnx.json")
    assert done.returncode == 0, done.stderr
    ours = json.loads((tmp_path / "onnx.json").read_text())
    torchs = json.loads((trained / "evaluation.json").read_text())
    assert ours["context"]["split_sha256"] == torchs["context"]["split_sha256"]
    for key, figure in torchs["figures"].items():
        assert ours["figures"][key]["value"] == pytest.approx(figure["value"], abs=2e-3), key


def test_a_segmented_slice_is_the_trained_nets_mask(segkit: Run, trained: Path, phantom: Path, tmp_path: Path) -> None:
    source = sorted(phantom.glob("*/*_3.tif"))[0]
    done = segkit("segment", source, "--model", trained, "-o", tmp_path / "mask.tif")
    assert done.returncode == 0, done.stderr
    deployed, _ = load_deployed(trained / "checkpoints" / "best.pt")
    with torch.no_grad():
        expected = deployed(torch.from_numpy(np.array(Image.open(source)))[None])[0][0].numpy() * 255
    got = np.asarray(Image.open(tmp_path / "mask.tif"))
    assert (got == expected).mean() >= 0.9999
    assert set(np.unique(got)) <= {0, 255}


def test_every_split_can_be_evaluated_and_a_foreign_one_is_refused(segkit: Run, trained: Path, tmp_path: Path) -> None:
    done = segkit("evaluate", trained, "--split", "all", "-o", tmp_path / "all.json")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "all.json").read_text())["context"]["patients"] == 8
    split = json.loads((trained / "split.json").read_text())
    split["test"] = [*split["test"], split["train"][0]]
    (tmp_path / "edited.json").write_text(json.dumps(split))
    refused = segkit("evaluate", trained, "--split-file", tmp_path / "edited.json")
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["evaluate", "nowhere"], "nowhere"),
        (["export", "nowhere"], "nowhere"),
        (["train", "--data", "nowhere"], "nowhere"),
        (["train", "--model", "resnet"], "unet"),
        (["train", "--config", "nowhere.toml"], "nowhere.toml"),
        (["train", "--size", "100"], "multiple of 32"),
        (["train", "--loader", "magic"], "packed"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(segkit: Run, words: list[str], named: str, phantom: Path) -> None:
    refused = segkit(*words, SEGKIT_DATA=str(phantom))
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert named in refused.stderr


def test_with_no_flags_but_a_short_run_all_three_nets_are_made(segkit: Run, tmp_path: Path) -> None:
    """In an empty folder: the phantom, with a warning; three runs under runs/; a table at the end."""
    done = segkit("train", "--width", "2", "--steps", "2", "--batch", "4")
    assert done.returncode == 0, done.stderr
    assert "phantom" in done.stderr
    for name in ("unet", "fcn", "segnet"):
        (run,) = (tmp_path / "runs").glob(f"{name}-*")
        assert (run / "model.onnx").exists()
        assert str(run.name) in done.stdout.split("patient Dice")[-1]
    again = segkit("train", "--width", "2", "--steps", "2", "--batch", "4", "--model", "unet")
    assert again.returncode == 0
    assert len(list((tmp_path / "runs").glob("unet-*"))) == 2  # a second run beside the first


def test_a_series_that_was_stopped_goes_on_with_the_nets_that_had_not_begun(
    segkit: Run, phantom: Path, tmp_path: Path
) -> None:
    settings = ["--width", "2", "--steps", "2", "--batch", "4"]
    first = segkit("train", "--data", phantom, *settings, "--model", "unet", "--run", "series/unet")
    assert first.returncode == 0, first.stderr
    done = segkit("train", "--resume", "--run", "series")
    assert done.returncode == 0, done.stderr
    assert "finished already" in done.stdout
    for name in ("fcn", "segnet"):
        config = TrainConfig.load(tmp_path / "series" / name / "config.toml")
        assert (config.model.model, config.model.width, Path(config.data.data)) == (name, 2, phantom)
        assert (tmp_path / "series" / name / "model.onnx").exists()


def write_decathlon(root: Path) -> None:
    """Six volumes of unequal size, three classes, 16 bits, an oblique affine."""
    rng = np.random.default_rng(0)
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    training = []
    for number in range(6):
        shape = (30 + number, 40 - number, 7)
        label = np.zeros(shape, np.uint8)
        label[8:16, 10:20, 2:5] = 1
        label[16:22, 10:20, 2:5] = 2
        image = (rng.normal(100, 10, shape) + 200 * (label == 1) + 500 * (label == 2)).astype(np.int16)
        affine = np.array([[0, -1.1, 0, 3], [0.9, 0.1, 0, -2], [0, 0, 3.0, 7], [0, 0, 0, 1]])
        name = f"case_{number:03}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(image, affine), root / "imagesTr" / name)
        nibabel.save(nibabel.Nifti1Image(label, affine), root / "labelsTr" / name)
        training.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    labels = {"0": "background", "1": "anterior", "2": "posterior"}
    content = {"modality": {"0": "MRI"}, "labels": labels, "numTraining": 6, "training": training}
    (root / "dataset.json").write_text(json.dumps(content))


def test_volumes_with_several_classes_and_sizes(segkit: Run, tmp_path: Path) -> None:
    data = tmp_path / "Task99"
    write_decathlon(data)
    settings = ["--model", "unet", "--width", "8", "--epochs", "30", "--batch", "8", "--lr", "0.01", "--no-augment"]
    # The classes differ by brightness alone, and a slice holds nothing else to measure it by.
    settings += ["--normalise", "dataset"]
    done = segkit("train", "--data", data, *settings, "--run", "run")
    assert done.returncode == 0, done.stderr
    evaluation = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert [entry["name"] for entry in evaluation["classes"]][1:] == ["anterior", "posterior"]
    assert evaluation["figures"]["hd95_mean"]["value"] is not None  # spacing is known
    assert evaluation["figures"]["pooled_dice"]["value"] > 0.8
    scan = data / "imagesTr" / "case_003.nii.gz"
    done = segkit("segment", scan, "--model", "run", "-o", tmp_path / "mask.nii.gz")
    assert done.returncode == 0, done.stderr
    mask, image, label = (
        nibabel.load(path) for path in (tmp_path / "mask.nii.gz", scan, data / "labelsTr" / "case_003.nii.gz")
    )
    assert mask.shape == image.shape
    np.testing.assert_array_equal(mask.affine, image.affine)
    got, truth = np.asarray(mask.dataobj), np.asarray(label.dataobj)
    for k in (1, 2):
        assert 2 * ((got == k) & (truth == k)).sum() / ((got == k).sum() + (truth == k).sum()) > 0.8
