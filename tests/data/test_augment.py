from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from segkit.data.augment import Augment
from segkit.data.config import AugmentConfig

OFF = {
    "flip": 0.0,
    "warp": 1.0,
    "rotate": 0.0,
    "scale": 0.0,
    "elastic": 0.0,
    "gamma": 0.0,
    "brightness": 0.0,
    "noise": 0.0,
}


def batch(height: int = 64, width: int = 96, count: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """A bright ellipse off centre, its mask, and channels that differ by a factor."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    inside = ((rows - 20) / 8.0) ** 2 + ((columns - 60) / 16.0) ** 2 < 1
    image = torch.stack([inside * 200, inside * 100, inside * 50], dim=-1).to(torch.uint8)
    return image.expand(count, -1, -1, -1).contiguous(), inside.to(torch.uint8).expand(count, -1, -1).contiguous()


def test_off_is_the_identity() -> None:
    images, masks = batch()
    x, y = Augment(AugmentConfig(augment=False))(images, masks, seed=1)
    assert torch.equal(x, images.permute(0, 3, 1, 2).float() / 255)
    assert torch.equal(y, masks.long())
    x, y = Augment(AugmentConfig(**OFF))(images, masks, seed=1)
    assert torch.equal(y, masks.long())
    torch.testing.assert_close(x, images.permute(0, 3, 1, 2).float() / 255)


def test_flip_mirrors_image_and_mask_alike() -> None:
    images, masks = batch()
    x, y = Augment(AugmentConfig(**{**OFF, "flip": 1.0}))(images, masks, seed=1)
    assert torch.equal(y, masks.flip(2).long())
    assert torch.equal(x, (images.permute(0, 3, 1, 2).float() / 255).flip(3))


@pytest.mark.parametrize(
    "setting",
    [{"rotate": 30.0}, {"scale": 0.3}, {"elastic": 4.0}, {"rotate": 20.0, "scale": 0.2, "flip": 0.5}],
)
def test_the_mask_moves_with_the_image(setting: dict[str, float]) -> None:
    images, masks = batch(count=16)
    x, y = Augment(AugmentConfig(**{**OFF, **setting}))(images, masks, seed=3)
    bright = x[:, 0] > 100 / 255
    overlap = (bright & (y == 1)).sum() * 2 / (bright.sum() + (y == 1).sum())
    assert overlap > 0.95
    assert not torch.equal(y, masks.long())


def test_rotation_keeps_shape_on_a_canvas_that_is_not_square() -> None:
    """Against SciPy: second moments of the ellipse (its axes' lengths) do not change when it turns."""
    images, masks = batch()
    _, y = Augment(AugmentConfig(**{**OFF, "rotate": 40.0}))(images, masks, seed=2)

    def axes(mask: np.ndarray) -> np.ndarray:
        points = np.argwhere(mask).astype(float)
        return np.sqrt(np.linalg.eigvalsh(np.cov(points.T)))

    for turned in y:
        np.testing.assert_allclose(axes(turned.numpy()), axes(masks[0].numpy()), rtol=0.06)


def test_rotation_agrees_with_scipy() -> None:
    images, masks = batch(64, 64, 1)
    augment = Augment(AugmentConfig(**{**OFF, "rotate": 25.0}))
    _, y = augment(images, masks, seed=11)
    angles = np.linspace(-25, 25, 501)
    overlaps = [
        np.mean(ndimage.rotate(masks[0].numpy(), angle, reshape=False, order=0) == y[0].numpy()) for angle in angles
    ]
    assert max(overlaps) > 0.995


def test_crop_gives_its_size_and_stays_inside() -> None:
    images, masks = batch(128, 96, 32)
    images[:] = 255
    x, y = Augment(AugmentConfig(**{**OFF, "crop": 64}))(images, masks, seed=4)
    assert x.shape == (32, 3, 64, 64)
    assert y.shape == (32, 64, 64)
    assert float(x.min()) > 0.999
    assert len({int(total) for total in y.sum(dim=(1, 2))}) > 5  # different places


def test_same_seed_same_batch() -> None:
    images, masks = batch()
    augment = Augment(AugmentConfig())
    first, second, other = (augment(images, masks, seed=s) for s in (7, 7, 8))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[0], other[0])


def test_values_stay_on_the_unit_interval_and_channels_last() -> None:
    images, masks = batch()
    x, _ = Augment(AugmentConfig(gamma=1.0, brightness=1.0, noise=0.5))(images, masks, seed=7)
    assert 0 <= float(x.min()) <= float(x.max()) <= 1
    assert x.is_contiguous(memory_format=torch.channels_last)


def test_coarse_shows_the_same_part_at_half_the_resolution() -> None:
    images, masks = batch(128, 128, 16)
    augment = Augment(AugmentConfig(**{**OFF, "rotate": 20.0, "elastic": 2.0, "crop": 64}))
    fine, fine_mask = augment(images, masks, seed=5)
    coarse, coarse_mask = augment(images, masks, seed=5, coarse=True)
    assert coarse.shape == (16, 3, 32, 32)
    assert coarse_mask.shape == (16, 32, 32)
    assert (torch.nn.functional.avg_pool2d(fine, 2) - coarse).abs().mean() < 0.002
    shrunk = torch.nn.functional.avg_pool2d(fine_mask[:, None].float(), 2)[:, 0] > 0.5
    assert (shrunk == coarse_mask.bool()).float().mean() > 0.98
    whole, whole_mask = Augment(AugmentConfig(augment=False, crop=64))(images, masks, seed=5, coarse=True)
    assert whole.shape[2:] == whole_mask.shape[1:] == (32, 32)


def test_missing_channels_become_flair_one_alone_or_all_others_alike_often() -> None:
    images, masks = batch(count=256)
    x, _ = Augment(AugmentConfig(**{**OFF, "missing": 0.6}), ("pre", "FLAIR", "post"))(images, masks, seed=6)
    flair = images[..., 1].float() / 255
    torch.testing.assert_close(x[:, 1], flair)
    gone = [(x[:, k] - flair).abs().amax(dim=(1, 2)) < 1e-6 for k in (0, 2)]
    kept = [(x[:, k] - images[..., k].float() / 255).abs().amax(dim=(1, 2)) < 1e-6 for k in (0, 2)]
    assert bool((gone[0] ^ kept[0]).all())
    assert bool((gone[1] ^ kept[1]).all())
    choices = [int((gone[0] & kept[1]).sum()), int((kept[0] & gone[1]).sum()), int((gone[0] & gone[1]).sum())]
    assert all(30 < count < 75 for count in choices)  # 51 are expected of each
    assert 80 < int((kept[0] & kept[1]).sum()) < 126  # 102


def test_channels_change_each_for_itself_and_a_bias_field_is_smooth() -> None:
    images, masks = batch()
    images[:] = 128
    x, _ = Augment(AugmentConfig(**{**OFF, "gamma": 0.5, "brightness": 0.3}))(images, masks, seed=8)
    levels = x.amax(dim=(2, 3))
    assert len(levels.unique()) == levels.numel()
    x, _ = Augment(AugmentConfig(**{**OFF, "bias": 0.2}))(images, masks, seed=9)
    assert float(x.std()) > 0.03
    assert float((x[..., 1:] - x[..., :-1]).abs().max()) < 0.03
