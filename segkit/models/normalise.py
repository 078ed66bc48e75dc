"""Intensities brought to one scale before the net sees them; part of the net's graph, in training and in use alike."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

FOREGROUND = 0.3  # of the typical bright level: air, padding and background noise lie below
FLOOR = 2.0 / 255  # darker levels than this are noise, which is not to be blown up to tissue
CEILING = 6.0  # of the tissue's level: fat and vessels may be brighter, but say no more then


def tissue_level(x: Tensor) -> Tensor:
    """The mean of what is not air, of each channel of each slice: float32 [N, C, H, W] >= 0 to [N, C, 1, 1].

    Air is what lies below FOREGROUND of the contraharmonic mean, sum(x^2) / sum(x), which black pixels do not
    change: the level is the same however much of the slice is padding, and follows the scanner's gain.
    """
    total = x.sum(dim=(2, 3), keepdim=True)
    bright = (x * x).sum(dim=(2, 3), keepdim=True) / total.clamp_min(1e-6)
    tissue = (x > FOREGROUND * bright).to(x.dtype)
    return (x * tissue).sum(dim=(2, 3), keepdim=True) / tissue.sum(dim=(2, 3), keepdim=True).clamp_min(1.0)


class Normalise(nn.Module):
    """(x - mean) / std a channel; before that, if `by_slice`, x becomes a multiple of its slice's tissue level."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], *, by_slice: bool = False) -> None:
        """`mean` and `std`: one per channel, on the scale 0..1, or in tissue levels if `by_slice`."""
        super().__init__()
        if len(mean) != len(std) or not all(value > 0 for value in std):
            raise ValueError(f"need a mean and a positive std per channel, got {list(mean)} and {list(std)}")
        self.by_slice = by_slice
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """float32 [N, C, H, W] on 0..1 to the same shape, around 0."""
        if self.by_slice:
            x = (x / tissue_level(x).clamp_min(FLOOR)).clamp_max(CEILING)
        return (x - self.mean) / self.std
