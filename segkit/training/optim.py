"""Optimiser, learning-rate schedule and the averaged weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import torch
from torch import nn

from segkit.training.config import OptimConfig


def make_optimizer(net: nn.Module, config: OptimConfig, device: torch.device) -> torch.optim.AdamW:
    """AdamW; weights decay, biases and norm parameters (one-dimensional) do not."""
    decayed = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    fused = config.fused and device.type in ("cuda", "cpu")
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=config.lr, fused=fused)


def learning_rate(config: OptimConfig, step: int, total: int) -> float:
    """Linear warm-up over `warmup` of the run, then half a cosine down to a hundredth of the peak.

    Cosine after Loshchilov and Hutter, SGDR (ICLR 2017). A function of the step alone: nothing to save.
    """
    warm = config.warmup * total
    if step < warm:
        return config.lr * (step + 1) / (warm + 1)
    progress = (step - warm) / max(1.0, total - warm)
    return config.lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Set it in every group."""
    for group in optimizer.param_groups:
        group["lr"] = value


class AveragedNet:
    """Exponential moving average of a net's state, batch-norm statistics included.

    The decay rises as (1 + step) / (10 + step) up to the configured one, so that the average forgets the
    random start at once.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay = decay
        self.net = copy.deepcopy(net).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, net: nn.Module, step: int) -> None:
        """Move the average towards `net` after optimiser step number `step` (from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        mine, theirs = list(_floats(self.net)), list(_floats(net))
        torch._foreach_lerp_(mine, theirs, 1 - decay)
        for own, other in zip(self.net.buffers(), net.buffers(), strict=True):
            if not own.is_floating_point():
                own.copy_(other)


def _floats(net: nn.Module) -> Iterator[torch.Tensor]:
    yield from (p.detach() for p in net.parameters())
    yield from (b for b in net.buffers() if b.is_floating_point())
