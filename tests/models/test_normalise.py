from __future__ import annotations

import numpy as np
import pytest
import torch

from segkit.models.normalise import CEILING, Normalise, tissue_level


def head(seed: int = 0) -> torch.Tensor:
    """Two channels [1, 2, 64, 64] on 0..1: a disc of tissue with a brighter core, and air around it."""
    rows, columns = np.mgrid[:64, :64] - 31.5
    radius = np.hypot(rows, columns)
    image = np.where(radius < 8, 0.5, np.where(radius < 24, 0.3, 0.0))
    image = image + np.where(image > 0, np.random.default_rng(seed).normal(0, 0.01, image.shape), 0)
    return torch.from_numpy(np.stack([image, image * 0.5])[None].astype(np.float32))


def test_the_level_is_the_mean_of_the_tissue() -> None:
    x = head()
    expected = [float(channel[channel > 0.05].mean()) for channel in x[0]]
    np.testing.assert_allclose(tissue_level(x).flatten().numpy(), expected, rtol=1e-4)


def test_neither_gain_nor_padding_change_what_the_net_sees() -> None:
    x = head()
    normalise = Normalise([0.5, 0.5], [0.5, 0.5], by_slice=True)
    seen = normalise(x)
    torch.testing.assert_close(normalise(x * 0.2), seen)
    padded = torch.nn.functional.pad(x, (40, 10, 0, 90))
    torch.testing.assert_close(normalise(padded)[:, :, :64, 40:104], seen)
    assert seen[0, 0, 0, 0] == pytest.approx(-1)


def test_empty_slices_and_lone_bright_pixels_stay_finite() -> None:
    normalise = Normalise([0.5, 0.5], [0.5, 0.5], by_slice=True)
    assert torch.equal(normalise(torch.zeros(1, 2, 32, 32)), torch.full((1, 2, 32, 32), -1.0))
    noise = torch.zeros(1, 2, 32, 32)
    noise[..., ::2] = 0.5 / 255
    assert normalise(noise).max() < 0  # noise of half a grey level does not become tissue
    x = head()
    x[0, 0, 32, 32] = 50.0
    assert normalise(x).max() <= (CEILING - 0.5) / 0.5
