"""Random changes to a whole batch at once, on the device that trains.

All randomness comes from one seeded generator, so a step's augmentation depends only on (seed, rank, step).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from segkit.data.config import AugmentConfig
from segkit.data.resample import affine_planes, power, resample, smooth_planes

PIECE = 2  # slices changed at a time on a CPU: they stay in its cache, and no buffer is large enough to be mapped anew


def to_unit(images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """uint8 [B, H, W, C] and [B, H, W] to float32 [B, C, H, W] on 0..1 (channels last) and int64 [B, H, W]."""
    return images.permute(0, 3, 1, 2).float().div_(255), masks.long()


class Augment:
    """The augmentation of one configuration."""

    def __init__(self, config: AugmentConfig, channels: Sequence[str] = ()) -> None:
        """`channels`: their names; the one called FLAIR, else the first, stands in for a missing one."""
        self.config = config
        named = [index for index, name in enumerate(channels) if name.lower() == "flair"]
        self.stand_in = named[0] if named else 0

    def __call__(self, images: Tensor, masks: Tensor, seed: int, *, coarse: bool = False) -> tuple[Tensor, Tensor]:
        """uint8 images [B, H, W, C] and masks [B, H, W] to float32 [B, C, h, w] on 0..1 and int64 [B, h, w].

        h and w are the crop where one is configured, else H and W; `coarse` shows the same part at half the
        resolution, so half of that.
        """
        config = self.config
        generator = torch.Generator(images.device).manual_seed(seed)
        if not config.augment:
            x, y = self._centre_crop(*to_unit(images, masks))
            return _halved(x, y) if coarse else (x, y)
        height, width = (length // 2 if coarse else length for length in self._output_size(images.shape[1:3]))
        shape = (len(images), images.shape[3], height, width)
        x = torch.empty(shape, device=images.device, memory_format=torch.channels_last)
        y = torch.empty((len(images), height, width), dtype=torch.int64, device=images.device)
        step = PIECE if images.device.type == "cpu" else len(images)
        for start in range(0, len(images), step):
            piece = slice(start, start + step)
            moved, y[piece] = self._geometry(*_planar(images[piece], masks[piece]), generator, coarse=coarse)
            x[piece] = self._intensity(moved, generator)
        return x, y

    def _centre_crop(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        height, width = self._output_size(x.shape[2:])
        top, left = (x.shape[2] - height) // 2, (x.shape[3] - width) // 2
        window = (..., slice(top, top + height), slice(left, left + width))
        return x[window], y[window]

    def _output_size(self, full: Sequence[int]) -> tuple[int, int]:
        """Height and width of what comes of slices of that height and width."""
        height, width = full
        crop = self.config.crop
        return (min(crop, height) or height, min(crop, width) or width)

    def _geometry(self, x: Tensor, y: Tensor, generator: torch.Generator, *, coarse: bool) -> tuple[Tensor, Tensor]:
        """Flip, rotate, scale, shift to a random crop and displace, in one resampling of the batch."""
        config, count, device = self.config, len(x), x.device
        flip = _uniform(count, generator) < config.flip
        warp = _uniform(count, generator) < config.warp
        angle = _spread(count, generator) * math.radians(config.rotate) * warp
        zoom = torch.exp(_spread(count, generator) * math.log1p(config.scale) * warp)
        shift = torch.stack([_spread(count, generator), _spread(count, generator)], dim=1)
        full = (x.shape[2], x.shape[3])
        size = self._output_size(full)
        warps = config.warp and (config.rotate or config.scale or config.elastic)
        if size == full and not warps:  # a flip alone needs no resampling
            x, y = _flipped(x, y, flip)
            return _halved(x, y) if coarse else (x, y)
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
        if coarse:
            size = (size[0] // 2, size[1] // 2)
            x = F.avg_pool2d(x, 2)  # against aliasing; the planes are relative, so they fit the smaller image too
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
        """Missing channels, gamma, brightness, bias field and noise; the result stays on 0..1."""
        config, count = self.config, len(x)
        each = (*x.shape[:2], 1, 1)
        if config.missing:
            gone = self._gone(count, x.shape[1], generator)
            x = torch.where(gone[:, :, None, None], x[:, self.stand_in, None], x)
        if config.gamma:
            gamma = torch.exp(_spread(count * x.shape[1], generator) * config.gamma)
            x = power(x.clamp_min(1e-6), gamma.view(each))
        if config.brightness:
            x = x * (1 + _spread(count * x.shape[1], generator) * config.brightness).view(each)
        if config.bias:
            lattice = torch.randn((*x.shape[:2], 4, 4), generator=generator, device=x.device) * config.bias
            x = x * smooth_planes(lattice, (x.shape[2], x.shape[3])).exp()
        if config.noise:
            sigma = _uniform(count, generator) * config.noise
            noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
            x = x + noise * sigma[:, None, None, None]
        return x.clamp_(0, 1)

    def _gone(self, count: int, channels: int, generator: torch.Generator) -> Tensor:
        """Which channels of each slice are missing, bool [count, channels]; each choice without FLAIR alike often."""
        others = [index for index in range(channels) if index != self.stand_in]
        gone = torch.zeros((count, channels), dtype=torch.bool, device=generator.device)
        if others:
            lacks = _uniform(count, generator) < self.config.missing
            choice = 1 + torch.randint(2 ** len(others) - 1, (count,), generator=generator, device=generator.device)
            bits = torch.arange(len(others), device=generator.device)
            gone[:, others] = ((choice[:, None] >> bits) & 1).bool() & lacks[:, None]
        return gone


def _planar(images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """uint8 [B, H, W, C] and [B, H, W] to float32 [B, C, H, W] on 0..1 and [B, H, W], planes as they are resampled."""
    planes = images.permute(0, 3, 1, 2).contiguous()  # bytes first: a quarter of the memory to shuffle
    return planes.float().div_(255), masks.float()


def _uniform(count: int, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator, device=generator.device)


def _spread(count: int, generator: torch.Generator) -> Tensor:
    return _uniform(count, generator) * 2 - 1


def _flipped(x: Tensor, y: Tensor, flip: Tensor) -> tuple[Tensor, Tensor]:
    return torch.where(flip[:, None, None, None], x.flip(3), x), torch.where(flip[:, None, None], y.flip(2), y)


def _halved(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Half the resolution: images averaged, masks by every second pixel."""
    return F.avg_pool2d(x, 2), y[:, ::2, ::2]
