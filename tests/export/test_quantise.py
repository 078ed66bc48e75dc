from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from segkit.export.onnx_model import export_onnx
from segkit.export.quantise import quantise_int8
from segkit.export.weights import halve_weights, quarter_weights
from segkit.inference.session import Model
from segkit.model_metadata import ModelMetadata
from segkit.models.deployed import DeployedNet
from segkit.models.normalise import Normalise
from segkit.models.registry import build

METADATA = ModelMetadata("unet", 4, ("background", "tumor"), ("pre", "flair", "post"), (64, 64), "scale", (0, 255))


def slices(count: int, seed: int, size: tuple[int, int] = (64, 64)) -> np.ndarray:
    """Smooth random pictures uint8 [N, H, W, 3]."""
    noise = torch.from_numpy(np.random.default_rng(seed).random((count, 3, 8, 8), np.float32))
    smooth = torch.nn.functional.interpolate(noise, size=size, mode="bicubic").clamp(0, 1)
    return (smooth.permute(0, 2, 3, 1) * 255).to(torch.uint8).numpy()


@pytest.fixture(scope="module", params=[False, True], ids=["once", "at half the resolution, too"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A U-Net that has learnt that tumour is where FLAIR is bright, exported."""
    torch.manual_seed(0)
    net = build("unet", in_channels=3, classes=2, width=4)
    deployed = DeployedNet(net, Normalise([0.5] * 3, [0.25] * 3, by_slice=True), half=request.param)
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    for step in range(60):
        x = torch.from_numpy(slices(8, step))
        target = (x[..., 1] > 140).long()
        loss = torch.nn.functional.cross_entropy(deployed.logits(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    export_onnx(deployed.eval(), METADATA, path)
    return path


def agreement(first: Path, second: Path) -> float:
    images = slices(6, 1000, (70, 90))  # another size than the calibration's, and no multiple of 32
    masks = [Model.load(path, "cpu").masks(images) for path in (first, second)]
    assert 0.05 < masks[0].mean() < 0.95  # there is something to agree on
    return float((masks[0] == masks[1]).mean())


def as_run(path: Path) -> Counter[str]:
    """The operators that ONNX Runtime makes of a model on a CPU."""
    options = onnxruntime.SessionOptions()
    optimised = path.with_suffix(".optimised")
    options.optimized_model_filepath = str(optimised)
    options.log_severity_level = 4
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    nodes = onnx.load(optimised).graph.node
    optimised.unlink()
    return Counter(node.op_type for node in nodes)


@pytest.mark.parametrize(("store", "size", "alike"), [(halve_weights, 0.7, 0.999), (quarter_weights, 0.5, 0.99)])
def test_weights_in_fewer_bits_decide_alike_and_keep_the_contract(
    exported: Path, tmp_path: Path, store: Callable[[Path, Path], None], size: float, alike: float
) -> None:
    target = tmp_path / "smaller.onnx"
    store(exported, target)
    assert target.stat().st_size < size * exported.stat().st_size
    assert Model.load(target, "cpu").metadata == METADATA
    assert agreement(exported, target) > alike


def test_quartered_weights_are_the_nearest_multiples_and_run_as_fast(exported: Path, tmp_path: Path) -> None:
    target = tmp_path / "quarter.onnx"
    quarter_weights(exported, target)
    assert as_run(target) == as_run(exported)  # widened when it is loaded, not when it runs
    before, after = (
        {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}
        for path in (exported, target)
    )
    nodes = onnx.load(exported).graph.node
    used = {node.input[1]: node.op_type for node in nodes if node.op_type in ("Conv", "ConvTranspose")}
    kernels = {name: used[name] for name in before if name in used}  # a second look has other names for them
    assert len(kernels) > 15
    assert set(kernels.values()) == {"Conv", "ConvTranspose"}
    for name, kind in kernels.items():
        kernel = before[name] if kind == "Conv" else before[name].swapaxes(0, 1)
        integers, scale = after[f"{name}.integers"], after[f"{name}.scale"]
        widened = integers * scale if kind == "Conv" else (integers * scale).swapaxes(0, 1)
        for channel, rounded in zip(kernel, widened, strict=True):
            step = np.abs(channel).max() / 127
            assert np.abs(channel - rounded).max() <= 0.5001 * step


def test_integers_decide_nearly_alike_and_keep_the_contract(exported: Path, tmp_path: Path) -> None:
    target = tmp_path / "int8.onnx"
    quantise_int8(exported, target, [slices(count, 50 + count) for count in (4, 3, 5, 4)])
    assert [path.name for path in tmp_path.iterdir()] == ["int8.onnx"]
    assert Model.load(target, "cpu").metadata == METADATA
    assert agreement(exported, target) > 0.98
    tensors = onnx.load(target).graph.initializer
    weights = [t for t in tensors if t.data_type == onnx.TensorProto.INT8 and len(t.dims) == 4]
    assert len(weights) > 15
    assert len(weights) < 30  # once each, however often the net looks
    kernels = {node.input[1] for node in onnx.load(target).graph.node if node.op_type == "Conv"}
    in_float = [t.name for t in tensors if t.name in kernels and t.data_type == onnx.TensorProto.FLOAT]
    assert len(in_float) == 2  # of the first and the last convolution
    computed = as_run(target)
    looks = computed["ArgMax"] * (computed["Conv"] // 2)
    assert computed["QLinearConv"] == looks * (9 * 2 - 1 + 4)  # two a stage, but for the first; four that upsample
    assert computed["ConvTranspose"] == 0
    assert computed["QuantizeLinear"] == looks  # after the first convolution; never from one scale to another
    for tensor in weights:  # seven bits, so that pairs of products cannot overflow 16 bits
        assert np.abs(onnx.numpy_helper.to_array(tensor).astype(int)).max() <= 64


def test_a_target_that_exists_stays_where_calibration_fails(exported: Path, tmp_path: Path) -> None:
    target = tmp_path / "int8.onnx"
    target.write_bytes(b"old")
    with pytest.raises(Exception, match=r"(?i)invalid"):
        quantise_int8(exported, target, [np.zeros((1, 64, 64, 7), np.uint8)])
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["int8.onnx"]
