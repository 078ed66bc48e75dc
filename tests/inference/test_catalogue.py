from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from threshold_model import write_threshold_model

from segkit.errors import ConfigError, FileError
from segkit.files import write_json
from segkit.inference import catalogue
from segkit.inference.catalogue import add_model, added_folder, find_installed, installed
from segkit.inference.find import find_model


@pytest.fixture
def threshold_model(tmp_path: Path) -> Path:
    return write_threshold_model(tmp_path / "threshold.onnx")


@pytest.fixture
def own(threshold_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with one model, and an empty folder for added ones."""
    folder = tmp_path / "pretrained"
    folder.mkdir()
    (folder / "brain.onnx").write_bytes(threshold_model.read_bytes())
    digest = hashlib.sha256(threshold_model.read_bytes()).hexdigest()
    write_json(folder / "models.json", {"default": {"cpu": "brain"}, "models": {"brain": {"sha256": digest}}})
    monkeypatch.setattr(catalogue, "PACKAGED", folder)
    monkeypatch.setenv("SEGKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return folder


def test_without_a_name_the_packages_default(own: Path) -> None:
    assert find_model(None) == own / "brain.onnx"
    assert find_model("brain") == own / "brain.onnx"


def test_each_device_has_its_default(own: Path) -> None:
    (own / "large.onnx").write_bytes((own / "brain.onnx").read_bytes())
    digest = hashlib.sha256((own / "large.onnx").read_bytes()).hexdigest()
    models = {"brain": {"sha256": digest}, "another": {"sha256": digest}, "large": {"sha256": digest}}
    write_json(own / "models.json", {"default": {"cpu": "brain", "cuda": "large"}, "models": models})
    assert find_model(None, device="cpu") == own / "brain.onnx"
    assert find_model(None, device="cuda") == own / "large.onnx"
    assert find_model("brain", device="cuda") == own / "brain.onnx"
    assert [model.name for model in installed()] == ["brain", "large", "another"]


def test_a_changed_file_is_refused(own: Path) -> None:
    content = bytearray((own / "brain.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (own / "brain.onnx").write_bytes(content)
    with pytest.raises(FileError, match=r"brain\.onnx: is not the file that was installed .* install segkit again"):
        find_model(None)


def test_added_models_are_found_by_name_and_checked(own: Path, threshold_model: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "better"
    run.mkdir(parents=True)
    (run / "model.onnx").write_bytes(threshold_model.read_bytes())
    (run / "model.md").write_text("# A card\n")
    model = add_model(run / "model.onnx")
    assert model.name == "better"
    assert find_model("better") == tmp_path / "cache" / "models" / "better.onnx"
    assert model.card.read_text() == "# A card\n"
    assert [entry.name for entry in installed()] == ["brain", "better"]
    with pytest.raises(FileError, match=r"better\.onnx: exists; .*--force"):
        add_model(run / "model.onnx")
    add_model(run / "model.onnx", force=True)
    model.path.write_bytes(model.path.read_bytes() + b"\0")
    with pytest.raises(FileError, match="segkit models add"):
        find_model("better")


def test_only_models_with_sensible_names_are_added(own: Path, threshold_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no model of the package has"):
        add_model(threshold_model, "brain")
    with pytest.raises(ConfigError, match="letters, digits"):
        add_model(threshold_model, "../escape")
    junk = tmp_path / "junk.onnx"
    junk.write_bytes(b"no model")
    with pytest.raises(FileError, match="is not an ONNX model"):
        add_model(junk)
    assert [entry.name for entry in installed()] == ["brain"]


def test_a_file_put_there_by_hand_has_no_sum_and_is_found(own: Path, threshold_model: Path) -> None:
    folder = added_folder()
    assert folder is not None
    folder.mkdir(parents=True)
    (folder / "mine.onnx").write_bytes(threshold_model.read_bytes())
    (folder / "mine.json").write_text(json.dumps(["not", "a", "record"]))
    found = find_installed("mine")
    assert found is not None
    assert found.sha256 == ""
    assert found.checked() == folder / "mine.onnx"


def test_without_a_cache_they_lie_with_the_users_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEGKIT_CACHE", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert added_folder() == tmp_path / "data" / "segkit" / "models"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert added_folder() == tmp_path / ".local" / "share" / "segkit" / "models"
