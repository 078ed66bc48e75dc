from __future__ import annotations

import torch
from torch.nn import functional as F

from segkit.data.resample import affine_planes, power, resample, smooth_planes


def test_the_planes_are_pytorchs_grid() -> None:
    theta = torch.randn(3, 2, 3, generator=torch.Generator().manual_seed(0))
    for size in ((5, 8), (64, 33)):
        grid = F.affine_grid(theta, [3, 1, *size], align_corners=False)
        torch.testing.assert_close(affine_planes(theta, size).permute(0, 2, 3, 1), grid)


def test_the_field_is_pytorchs_bicubic_interpolation() -> None:
    lattice = torch.randn(2, 2, 6, 4, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(lattice, size=(50, 31), mode="bicubic", align_corners=True)
    torch.testing.assert_close(smooth_planes(lattice, (50, 31)), expected, atol=1e-5, rtol=1e-5)


def test_a_shift_by_whole_pixels_moves_images_and_labels_and_brings_in_zeros() -> None:
    image = torch.arange(2 * 4 * 6, dtype=torch.float32).view(1, 2, 4, 6) + 1
    labels = torch.arange(24).view(1, 4, 6) + 1
    planes = affine_planes(torch.tensor([[[1.0, 0.0, 2 * 2 / 6], [0.0, 1.0, 0.0]]]), (4, 6))  # reads 2 to the right
    x, y = resample(image, labels, planes)
    torch.testing.assert_close(x[..., :4], image[..., 2:])
    assert torch.equal(y[..., :4], labels[..., 2:])
    assert float(x[..., 4:].abs().max()) < 1e-4
    assert not y[..., 4:].any()


def test_the_layout_of_the_image_does_not_matter() -> None:
    image = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    labels = (image[:, 0] > 0.5).long()
    planes = affine_planes(torch.tensor([[[0.9, 0.2, 0.1], [-0.2, 0.9, 0.0]]]).expand(2, -1, -1), (16, 16))
    plain = resample(image, labels, planes)
    for layout in (torch.channels_last, torch.contiguous_format):
        again = resample(image.contiguous(memory_format=layout), labels, planes)
        assert torch.equal(plain[0], again[0])
        assert torch.equal(plain[1], again[1])


def test_the_power_is_the_power() -> None:
    x = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0)).clamp_min(1e-6)
    exponent = torch.tensor([0.3, 1.0, 2.5])[:, None, None]
    torch.testing.assert_close(power(x, exponent), x**exponent)
