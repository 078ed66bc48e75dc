"""U-Net (Ronneberger, Fischer and Brox 2015) with batch norm and padded convolutions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segkit.models.blocks import conv_stage, he_init

LEVELS = 4


class UNet(nn.Module):
    """Four levels down to 16 * `width` channels and four up; width 64 is the paper's: 31.0 M parameters.

    Two departures from the paper, both usual: convolutions are padded, so the mask has the image's
    size, and each is followed by batch norm (Ioffe and Szegedy 2015).
    """

    def __init__(self, in_channels: int, classes: int, width: int = 64) -> None:
        super().__init__()
        widths = [width << level for level in range(LEVELS + 1)]
        inputs = [in_channels, *widths[:-1]]
        self.down = nn.ModuleList(conv_stage(i, [o, o]) for i, o in zip(inputs, widths, strict=True))
        wider = list(zip(reversed(widths[1:]), reversed(widths[:-1]), strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose2d(i, o, 2, stride=2) for i, o in wider)
        self.merge = nn.ModuleList(conv_stage(2 * o, [o, o]) for _, o in wider)
        self.score = nn.Conv2d(width, classes, 1)
        he_init(self, self.score)

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_channels, H, W], H and W multiples of 16, -> logits [N, classes, H, W]."""
        skips: list[Tensor] = []
        for level, stage in enumerate(self.down):
            x = stage(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        skips.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat([skips.pop(), up(x)], dim=1))
        logits: Tensor = self.score(x)
        return logits
