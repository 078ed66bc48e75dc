"""FCN-8s on VGG16 (Long, Shelhamer and Darrell 2015)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from segkit.models.blocks import bilinear_init, conv_block, he_init, upsample_layer, vgg16_stages

FC_MULTIPLE = 64  # fc6 and fc7 have 4096 channels where the first stage has 64


class FCN8s(nn.Module):
    """VGG16 made convolutional, with the scores of pool3, pool4 and fc7 summed; width 64: 134 M parameters.

    `batch_norm=False` is the paper's net, which was made from a trained VGG16. From scratch both learn; with
    batch norm behind each convolution the loss falls sooner (blobs in noise, width 16, mean of the first 25
    steps: 0.41 against 1.19), so that is the default. The score layers start random, not at zero as in the
    paper (section 4.3): from scratch that takes half the steps. The paper pads the image by 100 pixels and
    crops; here fc6 is padded by 3, so nothing is to be cropped.
    """

    def __init__(self, in_channels: int, classes: int, width: int = 64, *, batch_norm: bool = True) -> None:
        super().__init__()
        self.encoder = vgg16_stages(in_channels, width, batch_norm=batch_norm)
        fc = FC_MULTIPLE * width
        self.fc6 = nn.Sequential(*conv_block(8 * width, fc, kernel=7, batch_norm=batch_norm), nn.Dropout(0.5))
        self.fc7 = nn.Sequential(*conv_block(fc, fc, kernel=1, batch_norm=batch_norm), nn.Dropout(0.5))
        self.score_fc7 = nn.Conv2d(fc, classes, 1)
        self.score_pool4 = nn.Conv2d(8 * width, classes, 1)
        self.score_pool3 = nn.Conv2d(4 * width, classes, 1)
        self.up_fc7 = upsample_layer(classes, 2)
        self.up_pool4 = upsample_layer(classes, 2)
        self.up_pool3 = upsample_layer(classes, 8)
        he_init(self, self.score_fc7, self.score_pool4, self.score_pool3)
        for upsample in (self.up_fc7, self.up_pool4, self.up_pool3):
            bilinear_init(upsample)

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_channels, H, W], H and W multiples of 32, -> logits [N, classes, H, W]."""
        pools: list[Tensor] = []
        for stage in self.encoder:
            x = F.max_pool2d(stage(x), 2)
            pools.append(x)
        x = self.up_fc7(self.score_fc7(self.fc7(self.fc6(x))))
        x = self.up_pool4(x + self.score_pool4(pools[3]))
        logits: Tensor = self.up_pool3(x + self.score_pool3(pools[2]))
        return logits
