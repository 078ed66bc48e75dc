"""SegNet (Badrinarayanan, Kendall and Cipolla 2017) on VGG16 with batch norm."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from segkit.models.blocks import VGG16_STAGES, conv_stage, he_init, max_unpool_2x2, vgg16_stages


class SegNet(nn.Module):
    """VGG16's 13 convolutions and their mirror image; width 64 is the paper's: 29.5 M parameters.

    The decoder gets no feature maps from the encoder, only where each maximum was.
    """

    def __init__(self, in_channels: int, classes: int, width: int = 64) -> None:
        super().__init__()
        self.encoder = vgg16_stages(in_channels, width, batch_norm=True)
        self.decoder = nn.ModuleList()
        narrower = [width, *(multiple * width for multiple, _ in VGG16_STAGES[:-1])]
        for (multiple, depth), outputs in zip(reversed(VGG16_STAGES), reversed(narrower), strict=True):
            inputs = multiple * width
            # The very last convolution of the mirror is `score`: no norm and no ReLU behind it.
            last = [outputs] if len(self.decoder) < len(VGG16_STAGES) - 1 else []
            self.decoder.append(conv_stage(inputs, [inputs] * (depth - 1) + last))
        self.score = nn.Conv2d(width, classes, 3, padding=1)
        he_init(self, self.score)

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_channels, H, W], H and W multiples of 32, -> logits [N, classes, H, W]."""
        pooling: list[tuple[Tensor, Tensor]] = []
        for stage in self.encoder:
            source = stage(x)
            x = F.max_pool2d(source, 2)
            pooling.append((x, source))
        for stage in self.decoder:
            x = stage(max_unpool_2x2(x, *pooling.pop()))
        logits: Tensor = self.score(x)
        return logits
