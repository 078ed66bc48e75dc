from __future__ import annotations

import os
from pathlib import Path

import pytest

from segkit.errors import SegkitError
from segkit.inference import catalogue
from segkit.inference.find import find_model


@pytest.fixture(autouse=True)
def nothing_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "PACKAGED", tmp_path / "pretrained")
    monkeypatch.setenv("SEGKIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for age, name in enumerate(("unet-old", "unet-new", "sweep/unet-deep", "fcn-1")):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / "model.onnx").touch()
        os.utime(folder / "model.onnx", (1000 - age, 1000 - age))
    os.utime(tmp_path / "runs/unet-new/model.onnx", (2000, 2000))
    (tmp_path / "runs" / "unet-unfinished").mkdir()
    return Path("runs")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("runs/fcn-1/model.onnx", "runs/fcn-1/model.onnx"),
        ("runs/fcn-1", "runs/fcn-1/model.onnx"),
        ("fcn", "runs/fcn-1/model.onnx"),
        ("unet", "runs/unet-new/model.onnx"),
        ("unet-deep", "runs/sweep/unet-deep/model.onnx"),
    ],
)
def test_a_path_a_run_or_the_beginning_of_its_name(runs: Path, name: str, found: str) -> None:
    assert find_model(name) == Path(found)


def test_the_cache_has_models_by_name(runs: Path, tmp_path: Path) -> None:
    model = tmp_path / "cache" / "models" / "brain.onnx"
    model.parent.mkdir(parents=True)
    model.touch()
    assert find_model("brain") == model


def test_without_a_name_it_says_what_there_is(runs: Path) -> None:
    with pytest.raises(SegkitError, match=r"--model is required.*runs/fcn-1, .*segkit train"):
        find_model(None)


def test_an_unknown_name_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SegkitError, match=r"nosuch: .*there is none under runs/.*segkit train.*segkit export"):
        find_model("nosuch")


def test_a_run_without_a_model_says_how_to_export(runs: Path) -> None:
    with pytest.raises(SegkitError, match="segkit export runs/unet-unfinished"):
        find_model("runs/unet-unfinished")
