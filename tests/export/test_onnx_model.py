from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from segkit.errors import ConfigError
from segkit.export.onnx_model import export_onnx, set_metadata
from segkit.model_metadata import ModelMetadata
from segkit.models.deployed import DeployedNet
from segkit.models.normalise import Normalise
from segkit.models.registry import build

METADATA = ModelMetadata(
    model="unet",
    width=2,
    classes=("background", "tumour"),
    channels=("pre", "flair", "post"),
    size=(64, 64),
    fit="scale",
    mask_values=(0, 255),
    metrics={"dice": 0.9},
    licence="CC BY 4.0",
)


def small() -> DeployedNet:
    torch.manual_seed(0)
    return DeployedNet(build("unet", in_channels=3, classes=2, width=2), Normalise([0.1] * 3, [0.2] * 3))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    export_onnx(small(), METADATA, path)
    return path


def test_keeps_the_contract(path: Path) -> None:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (image,) = session.get_inputs()
    assert (image.name, image.type, image.shape) == ("image", "tensor(uint8)", ["N", "H", "W", 3])
    outputs = {output.name: (output.type, output.shape) for output in session.get_outputs()}
    assert outputs["mask"] == ("tensor(uint8)", ["N", "H", "W"])
    assert outputs["probability"] == ("tensor(float)", ["N", 2, "H", "W"])
    assert ModelMetadata.from_props(session.get_modelmeta().custom_metadata_map) == METADATA


def test_has_only_standard_operators_and_no_batch_norm(path: Path) -> None:
    model = onnx.load(path)
    assert {opset.domain for opset in model.opset_import} == {""}
    assert not {"BatchNormalization", "MaxUnpool", "ScatterND"} & {node.op_type for node in model.graph.node}


def test_is_quiet(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export_onnx(small(), METADATA, tmp_path / "model.onnx")
    assert capfd.readouterr() == ("", "")


def test_exports_evaluation_mode_and_leaves_the_net_alone(tmp_path: Path) -> None:
    deployed = small().train()
    before = {key: value.clone() for key, value in deployed.state_dict().items()}
    export_onnx(deployed, METADATA, tmp_path / "model.onnx")
    assert deployed.training
    assert all(parameter.requires_grad for parameter in deployed.parameters())
    assert all(torch.equal(value, before[key]) for key, value in deployed.state_dict().items())
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    image = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    with torch.no_grad():
        expected = deployed.eval()(torch.from_numpy(image))[1]
    np.testing.assert_allclose(session.run(["probability"], {"image": image})[0], expected, rtol=1e-3, atol=1e-5)


def test_metadata_are_replaced_not_added_to(tmp_path: Path, path: Path) -> None:
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(path.read_bytes())
    set_metadata(copy, ModelMetadata(**{**vars(METADATA), "run_id": "second"}))
    props = onnx.load(copy).metadata_props
    assert len(props) == len({prop.key for prop in props})
    assert ModelMetadata.from_props({prop.key: prop.value for prop in props}).run_id == "second"


def test_a_failed_export_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "model.onnx"
    target.write_text("the old file")
    with pytest.raises(RuntimeError):
        export_onnx(DeployedNet(torch.nn.Conv2d(7, 2, 1), Normalise([0.1] * 3, [0.2] * 3)), METADATA, target)
    assert target.read_text() == "the old file"
    assert list(tmp_path.iterdir()) == [target]


def test_refuses_what_one_file_cannot_hold(tmp_path: Path) -> None:
    with torch.device("meta"):
        net = build("fcn", in_channels=3, classes=2, width=128)
    with pytest.raises(ConfigError, match="2 GB"):
        export_onnx(DeployedNet(net, Normalise([0.1] * 3, [0.2] * 3)), METADATA, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
