"""Random changes to a whole batch at once, on the device that trains.

All randomness comes from one seeded generator, so a step's augmentation depends only on (seed, rank, step).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from segkit.data.config import AugmentConfig
from segkit.data.resample import affine_planes, power, resample, smooth_planes

PIECE = 2  # slices changed at a time on a CPU: they stay in its cache, and no buffer is large enough to be mapped anew


def to_unit(images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """uint8 [B, H, W, C] and [B, H, W] to float32 [B, C, H, W] on 0..1 (channels last) and int64 [B, H, W]."""
    return images.permute(0, 3, 1, 2).float().div_(255), masks.long()


class Augment:
    """The augmentation of one configuration."""

    def __init__(self, config: AugmentConfig) -> None:
        self.config = config

    def __call__(self, images: Tensor, masks: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """uint8 images [B, H, W, C] and masks [B, H, W] to float32 [B, C, h, w] on 0..1 and int64 [B, h, w].

        h and w are the crop where one is configured, else H and W.
        """
        config = self.config
        generator = torch.Generator(images.device).manual_seed(seed)
        if not config.augment:
            return self._centre_crop(*to_unit(images, masks))
        if images.device.type != "cpu":
            return self._changed(images, masks, generator)
        pieces = [slice(start, start + PIECE) for start in range(0, len(images), PIECE)]
        changed = [self._changed(images[piece], masks[piece], generator) for piece in pieces]
        return torch.cat([x for x, _ in changed]), torch.cat([y for _, y in changed])

    def _changed(self, images: Tensor, masks: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x, y = self._geometry(*to_unit(images, masks), generator)
        return self._intensity(x, generator), y

    def _centre_crop(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        height, width = self._output_size(x)
        top, left = (x.shape[2] - height) // 2, (x.shape[3] - width) // 2
        window = (..., slice(top, top + height), slice(left, left + width))
        return x[window], y[window]

    def _output_size(self, x: Tensor) -> tuple[int, int]:
        crop = self.config.crop
        return (min(crop, x.shape[2]) or x.shape[2], min(crop, x.shape[3]) or x.shape[3])

    def _geometry(self, x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Flip, rotate, scale, shift to a random crop and displace, in one resampling of the batch."""
        config, count, device = self.config, len(x), x.device
        flip = _uniform(count, generator) < config.flip
        warp = _uniform(count, generator) < config.warp
        angle = _spread(count, generator) * math.radians(config.rotate) * warp
        zoom = torch.exp(_spread(count, generator) * math.log1p(config.scale) * warp)
        shift = torch.stack([_spread(count, generator), _spread(count, generator)], dim=1)
        size, full = self._output_size(x), (x.shape[2], x.shape[3])
        warps = config.warp and (config.rotate or config.scale or config.elastic)
        if size == full and not warps:  # a flip alone needs no resampling
            return _flipped(x, y, flip)
        share = torch.tensor([size[1] / full[1], size[0] / full[0]], device=device)  # of the width, of the height
        aspect = full[0] / full[1]
        cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
        sign = 1.0 - 2.0 * flip.float()
        theta = torch.stack(
            [
                torch.stack([cos * share[0] * sign, -sin * share[1] * aspect, shift[:, 0] * (1 - share[0])], dim=1),
                torch.stack([sin * share[0] * sign / aspect, cos * share[1], shift[:, 1] * (1 - share[1])], dim=1),
            ],
            dim=1,
        )
        planes = affine_planes(theta, size)
        if config.elastic:
            planes = planes + self._displacement(count, size, full, generator) * warp[:, None, None, None]
        return resample(x, y, planes)

    def _displacement(
        self, count: int, size: tuple[int, int], full: tuple[int, int], generator: torch.Generator
    ) -> Tensor:
        """A smooth random field [B, 2, h, w] in units of the planes: noise on a coarse lattice, interpolated."""
        lattice = torch.randn((count, 2, 6, 6), generator=generator, device=generator.device)
        pixel = torch.tensor([2 / full[1], 2 / full[0]], device=lattice.device).view(2, 1, 1)
        return smooth_planes(lattice * (self.config.elastic * pixel), size)

    def _intensity(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Gamma, brightness and noise; the result stays on 0..1."""
        config, count = self.config, len(x)
        if config.gamma:
            gamma = torch.exp(_spread(count, generator) * config.gamma)
            x = power(x.clamp_min(1e-6), gamma[:, None, None, None])
        if config.brightness:
            x = x * (1 + _spread(count, generator) * config.brightness)[:, None, None, None]
        if config.noise:
            sigma = _uniform(count, generator) * config.noise
            noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
            x = x + noise * sigma[:, None, None, None]
        return x.clamp(0, 1).contiguous(memory_format=torch.channels_last)


def _uniform(count: int, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator, device=generator.device)


def _spread(count: int, generator: torch.Generator) -> Tensor:
    return _uniform(count, generator) * 2 - 1


def _flipped(x: Tensor, y: Tensor, flip: Tensor) -> tuple[Tensor, Tensor]:
    return torch.where(flip[:, None, None, None], x.flip(3), x), torch.where(flip[:, None, None], y.flip(2), y)
