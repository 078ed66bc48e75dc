from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from threshold_model import expected_classes, threshold_metadata, write_threshold_model

from segkit.errors import ConfigError, FileError, SegkitError
from segkit.inference import session
from segkit.inference.session import Model, expected_device


def test_a_model_answers_after_the_contract(tmp_path: Path) -> None:
    model = Model.load(write_threshold_model(tmp_path / "model.onnx"))
    images = np.random.default_rng(0).integers(0, 256, (2, 40, 50, 3)).astype(np.uint8)
    expected = expected_classes(images[..., 0])
    assert (model.device, model.metadata) == ("cpu", threshold_metadata())
    np.testing.assert_array_equal(model.masks(images), expected)
    np.testing.assert_array_equal(model.masks(images[:, ::2, ::-1]), expected[:, ::2, ::-1])
    np.testing.assert_array_equal(model.probabilities(images)[:, 1], expected)


@pytest.mark.parametrize(("content", "reason"), [(b"", "is empty"), (b"not a model", "is not an ONNX model")])
def test_what_is_no_model_is_one_line(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(FileError, match=reason) as caught:
        Model.load(path)
    assert "\n" not in str(caught.value)


def test_a_cut_model_is_one_line(tmp_path: Path) -> None:
    path = write_threshold_model(tmp_path / "model.onnx")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(FileError, match="is not an ONNX model"):
        Model.load(path)


def test_a_foreign_model_names_what_it_lacks(tmp_path: Path) -> None:
    path = write_threshold_model(tmp_path / "model.onnx")
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.save(model, str(path))
    with pytest.raises(FileError, match=r"segkit\.model"):
        Model.load(path)


def test_metadata_that_contradict_the_tensors(tmp_path: Path) -> None:
    for metadata, reason in (
        (replace(threshold_metadata(), mask_values=(0,)), "contradict"),
        (replace(threshold_metadata(), fit="stretch"), "contradict"),
    ):
        with pytest.raises(FileError, match=reason):
            Model.load(write_threshold_model(tmp_path / "model.onnx", metadata))


def test_other_tensors_are_refused(tmp_path: Path) -> None:
    path = write_threshold_model(tmp_path / "model.onnx")
    model = onnx.load(path)
    del model.graph.output[1]
    onnx.save(model, str(path))
    with pytest.raises(FileError, match="not image, mask and probability"):
        Model.load(path)


def test_a_failing_run_is_one_line(tmp_path: Path) -> None:
    model = Model.load(write_threshold_model(tmp_path / "model.onnx"))
    with pytest.raises(FileError, match="failed on 1 slices"):
        model.masks(np.zeros((1, 40, 40, 2), np.uint8))


def test_devices(tmp_path: Path) -> None:
    path = write_threshold_model(tmp_path / "model.onnx")
    with pytest.raises(ConfigError, match="auto, cpu, cuda"):
        Model.load(path, "gpu")
    assert Model.load(path, "cpu", slices_hint=10_000).device == "cpu"
    assert Model.load(path, "auto", slices_hint=1).device == "cpu"


def test_the_device_is_foretold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    node = tmp_path / "nvidiactl"
    monkeypatch.setattr(session, "_GPU_NODES", (str(node),))
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    for device in ("auto", "cuda", "cpu"):
        assert expected_device(device, 10**6) == "cpu"  # the wheel has CUDA, the machine has no GPU
    node.touch()
    for device, slices, expected in [("auto", 1, "cpu"), ("auto", 10**6, "cuda"), ("cpu", 10**6, "cpu")]:
        assert expected_device(device, slices) == expected
    assert expected_device("cuda", 1) == "cuda"
    monkeypatch.undo()
    assert (
        expected_device("auto", 10**6) == Model.load(write_threshold_model(tmp_path / "m.onnx"), "auto", 10**6).device
    )


def test_cuda_that_does_not_work_is_an_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write_threshold_model(tmp_path / "model.onnx")
    if Model.load(path, "auto", slices_hint=10_000).device == "cuda":
        pytest.skip("CUDA works here")
    with pytest.raises(SegkitError, match=r"^--device cuda: .*; use --device cpu$"):
        Model.load(path, "cuda")
    assert capfd.readouterr() == ("", "")
