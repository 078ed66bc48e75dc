from __future__ import annotations

import io

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from segkit.export.rewrite import upsample_by_convolution

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the exporter that writes small graphs


class Twice(nn.Module):
    """A net that upsamples what it sees twice, with the same weights."""

    def __init__(self, up: nn.Module) -> None:
        super().__init__()
        self.up = up

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        small = torch.relu(self.up(x))
        return small[..., : x.shape[2], : x.shape[3]] + self.up(small[:, :5])[..., : x.shape[2], : x.shape[3]]


def exported(net: nn.Module) -> onnx.ModelProto:
    buffer = io.BytesIO()
    axes = {"x": {0: "n", 2: "h", 3: "w"}}
    torch.onnx.export(
        net.eval(), (torch.zeros(1, 5, 8, 8),), buffer, input_names=["x"], dynamic_axes=axes, dynamo=False
    )
    return onnx.load_from_string(buffer.getvalue())


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


@pytest.mark.parametrize(("block", "bias"), [(2, True), (2, False), (3, True)])
def test_upsampling_by_a_convolution_computes_the_same_at_any_size(block: int, bias: bool) -> None:
    torch.manual_seed(0)
    net = Twice(nn.ConvTranspose2d(5, 7, block, block, bias=bias))
    model = exported(net)
    assert upsample_by_convolution(model) == 2
    onnx.checker.check_model(model, full_check=True)
    assert "ConvTranspose" not in [node.op_type for node in model.graph.node]
    assert sum(list(tensor.dims) == [7 * block**2, 5, 1, 1] for tensor in model.graph.initializer) == 1  # shared
    x = torch.rand(3, 5, 6, 11)
    with torch.inference_mode():
        np.testing.assert_allclose(run(model, x.numpy()), net(x).numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "up",
    [
        nn.ConvTranspose2d(5, 7, 4, 2, padding=1),
        nn.ConvTranspose2d(5, 7, 2, 2, output_padding=1),
        nn.ConvTranspose2d(5, 5, 2, 2, groups=5),
        nn.ConvTranspose2d(5, 7, (2, 3), (2, 3)),
    ],
)
def test_other_transposed_convolutions_stay(up: nn.Module) -> None:
    model = exported(up)
    before = model.SerializeToString()
    assert upsample_by_convolution(model) == 0
    assert model.SerializeToString() == before
