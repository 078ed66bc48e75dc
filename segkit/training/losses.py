"""Dice + cross-entropy."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class DiceCrossEntropy(nn.Module):
    """Cross-entropy plus `dice` times the soft Dice loss of the foreground classes, over the batch as one volume.

    Soft Dice after Milletari et al., V-Net (3DV 2016), with the sum (not the squares) in the denominator;
    the batch is one volume because most slices of a patient have no tumour, where a per-slice Dice is undefined.
    """

    def __init__(self, dice: float) -> None:
        super().__init__()
        self.dice = dice

    def forward(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, K, H, W] in any precision, target int64 [B, H, W]; loss and soft Dice, float32 scalars."""
        log_probability = logits.float().log_softmax(dim=1)
        truth = F.one_hot(target, logits.shape[1]).permute(0, 3, 1, 2).to(log_probability.dtype)
        # Products with the one-hot truth: `nll_loss` has no deterministic kernel on GPUs.
        cross_entropy = -(log_probability * truth).sum(dim=1).mean()
        probability, truth = log_probability[:, 1:].exp(), truth[:, 1:]
        overlap = (probability * truth).sum(dim=(0, 2, 3))
        total = probability.sum(dim=(0, 2, 3)) + truth.sum(dim=(0, 2, 3))
        # One pixel of smoothing: a batch without a class costs nothing where nothing was predicted.
        soft_dice = ((2 * overlap + 1) / (total + 1)).mean()
        return cross_entropy + self.dice * (1 - soft_dice), soft_dice.detach()
