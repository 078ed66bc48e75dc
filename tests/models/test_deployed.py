from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from segkit.models.deployed import DeployedNet
from segkit.models.normalise import Normalise

MEAN, STD = [0.1, 0.4], [0.5, 0.25]


class Recorder(nn.Module):
    """Keeps what it was given and answers with it: two channels, two classes."""

    def forward(self, x: Tensor) -> Tensor:
        self.seen = x
        return x


def test_normalises_and_pads_with_black() -> None:
    image = np.random.default_rng(0).integers(0, 256, (2, 33, 47, 2), dtype=np.uint8)
    net = Recorder()
    deployed = DeployedNet(net, Normalise(MEAN, STD))
    logits = deployed.logits(torch.from_numpy(image))
    black = np.zeros((2, 64, 64, 2))
    black[:, :33, :47] = image / 255.0
    expected = ((black - MEAN) / STD).transpose(0, 3, 1, 2)
    assert net.seen.shape == (2, 2, 64, 64)
    np.testing.assert_allclose(net.seen.numpy(), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(logits.numpy(), expected[:, :, :33, :47], rtol=1e-5, atol=1e-6)


def test_mask_is_the_most_probable_class() -> None:
    image = torch.randint(0, 256, (3, 40, 50, 2), dtype=torch.uint8)
    mask, probability = DeployedNet(Recorder(), Normalise(MEAN, STD))(image)
    assert mask.dtype == torch.uint8
    assert mask.shape == (3, 40, 50)
    assert probability.dtype == torch.float32
    torch.testing.assert_close(probability.sum(dim=1), torch.ones(3, 40, 50))
    assert torch.equal(mask.long(), probability.argmax(dim=1))


def test_keeps_channels_last_and_float32_under_autocast() -> None:
    net = nn.Conv2d(2, 3, 1)
    deployed = DeployedNet(net, Normalise(MEAN, STD))
    image = torch.randint(0, 256, (2, 40, 50, 2), dtype=torch.uint8)
    assert deployed.prepare(image).is_contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        assert deployed.logits(image).dtype == torch.float32


def test_buffers_travel_with_the_state() -> None:
    assert {"normalise.mean", "normalise.std"} <= set(DeployedNet(Recorder(), Normalise(MEAN, STD)).state_dict())


@pytest.mark.parametrize(("mean", "std"), [([0.1], [0.2, 0.3]), ([0.1], [0.0]), ([0.1], [float("nan")])])
def test_refuses_what_cannot_normalise(mean: list[float], std: list[float]) -> None:
    with pytest.raises(ValueError, match="positive std"):
        Normalise(mean, std)
