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


class Twice(Recorder):
    """Keeps all that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.all_seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.all_seen.append(x)
        return super().forward(x)


def test_half_sees_the_means_of_four_pixels_too_and_takes_the_mean_of_both_answers() -> None:
    """A pixel's own value and the mean around it: bilinear between the four nearest means, 9:3:3:1."""
    image = np.random.default_rng(0).integers(0, 256, (2, 64, 70, 2), dtype=np.uint8)
    net = Twice()
    logits = DeployedNet(net, Normalise(MEAN, STD), half=True).logits(torch.from_numpy(image)).numpy()
    assert [tuple(x.shape[2:]) for x in net.all_seen] == [(64, 128), (32, 64)]
    full = net.all_seen[0].numpy()
    means = full.reshape(2, 2, 32, 2, 64, 2).mean(axis=(3, 5))
    np.testing.assert_allclose(net.all_seen[1].numpy(), means, rtol=1e-5, atol=1e-5)
    assert logits.shape == (2, 2, 64, 70)
    row, column = 21, 34  # nearest to the means of rows 10 and 11, columns 17 and 16
    near = 9 * means[..., 10, 17] + 3 * means[..., 11, 17] + 3 * means[..., 10, 16] + means[..., 11, 16]
    expected = (full[..., row, column] + near / 16) / 2
    np.testing.assert_allclose(logits[..., row, column], expected, rtol=1e-4, atol=1e-5)


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
