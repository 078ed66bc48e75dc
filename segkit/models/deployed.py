"""The net as it is used: 8-bit pixels in, a mask and probabilities out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segkit.model_metadata import STRIDE


class DeployedNet(nn.Module):
    """A net with the steps around it. Evaluation runs it and export writes it, so both decide alike."""

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        """`mean` and `std`: one per channel, on the scale where 8-bit pixels span 0 to 1."""
        super().__init__()
        if len(mean) != len(std) or not all(value > 0 for value in std):
            raise ValueError(f"need a mean and a positive std per channel, got {list(mean)} and {list(std)}")
        self.net = net
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, -1, 1, 1))

    def prepare(self, image: Tensor) -> Tensor:
        """uint8 [N, H, W, C] -> normalised float32 [N, C, H', W'], padded with black at the bottom and right.

        H' and W' are the next multiples of 32. The result is channels_last in memory, as the pixels were.
        """
        height, width = image.shape[1], image.shape[2]
        x = image.permute(0, 3, 1, 2).float()
        x = F.pad(x, (0, -width % STRIDE, 0, -height % STRIDE))
        return (x - 255.0 * self.mean) / (255.0 * self.std)

    def logits(self, image: Tensor) -> Tensor:
        """uint8 [N, H, W, C] -> float32 logits [N, K, H, W]."""
        logits: Tensor = self.net(self.prepare(image))
        return logits[:, :, : image.shape[1], : image.shape[2]].float()

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 [N, H, W, C] -> mask uint8 [N, H, W] (class index), probability float32 [N, K, H, W]."""
        logits = self.logits(image)
        # Softmax written out: along the class axis ONNX Runtime takes 2.0 ms for its own, 0.6 ms for this.
        exponential = (logits - logits.amax(dim=1, keepdim=True)).exp()
        return logits.argmax(dim=1).to(torch.uint8), exponential / exponential.sum(dim=1, keepdim=True)
