"""What a net costs: parameters, and operations of one forward pass."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from segkit.models.registry import build


@dataclass(frozen=True)
class Cost:
    """A net's size and the work of one forward pass."""

    parameters: int
    gflops: float  # 1e9 floating-point operations; a multiplication with its addition counts as 2


def cost(name: str, *, in_channels: int, classes: int, width: int, size: int = 256) -> Cost:
    """Cost of one image of `size` x `size` pixels. Raises what `registry.build` does.

    Convolutions are counted, as is usual; norms, activations and pooling are below 2 % of the work.
    No weight is ever allocated: the net lives on torch's meta device.
    """
    with torch.device("meta"):
        net = build(name, in_channels=in_channels, classes=classes, width=width).eval()
        image = torch.empty(1, in_channels, size, size)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        net(image)
    parameters = sum(parameter.numel() for parameter in net.parameters())
    return Cost(parameters, counter.get_total_flops() / 1e9)
