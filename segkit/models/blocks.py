"""Layers that the nets share, and how their weights start."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

# VGG16's 13 convolutions (Simonyan and Zisserman 2015, table 1, column D): channels of each of the
# five stages in units of `width` (64 in the paper), and how many convolutions a stage has.
VGG16_STAGES = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))


def conv_block(inputs: int, outputs: int, *, kernel: int = 3, batch_norm: bool = True) -> list[nn.Module]:
    """Convolution that keeps the size, batch norm (which makes the bias redundant), ReLU."""
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=not batch_norm)
    norm = [nn.BatchNorm2d(outputs)] if batch_norm else []
    return [conv, *norm, nn.ReLU(inplace=True)]


def conv_stage(inputs: int, outputs: Sequence[int], *, batch_norm: bool = True) -> nn.Sequential:
    """3x3 conv blocks one after the other, giving `outputs[0]`, `outputs[1]`, ... channels."""
    layers: list[nn.Module] = []
    for channels in outputs:
        layers += conv_block(inputs, channels, batch_norm=batch_norm)
        inputs = channels
    return nn.Sequential(*layers)


def vgg16_stages(in_channels: int, width: int, *, batch_norm: bool) -> nn.ModuleList:
    """The five convolution stages of VGG16, without the 2x2 max pooling that follows each."""
    stages = nn.ModuleList()
    for multiple, depth in VGG16_STAGES:
        stages.append(conv_stage(in_channels, [multiple * width] * depth, batch_norm=batch_norm))
        in_channels = multiple * width
    return stages


def he_init(net: nn.Module, *linear: nn.Module) -> None:
    """Normal weights that keep the variance of what passes, for every convolution of `net`; biases 0.

    The gain is sqrt(2), for the ReLU behind (He et al. 2015, equation 10), and 1 for transposed convolutions
    and the `linear` ones, which have none. A transposed convolution's fan-in is what reaches one output
    pixel: kernel area over stride area (not what `nn.init.kaiming_normal_` takes).
    """
    for module in net.modules():
        # Weights on the meta device have no values, and drawing them there imports torch.compile: 2 s.
        if not isinstance(module, nn.Conv2d | nn.ConvTranspose2d) or module.weight.is_meta:
            continue
        transposed = isinstance(module, nn.ConvTranspose2d)
        area = math.prod(module.kernel_size) / (math.prod(module.stride) if transposed else 1)
        gain = 1.0 if transposed or module in linear else math.sqrt(2)
        nn.init.normal_(module.weight, std=gain / math.sqrt(module.in_channels * area))
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def upsample_layer(channels: int, factor: int) -> nn.ConvTranspose2d:
    """Learned upsampling by an even `factor` (Long et al. 2015); `bilinear_init` gives it its first weights.

    [N, channels, H, W] -> [N, channels, factor * H, factor * W], centres aligned.
    """
    kernel = 2 * factor
    return nn.ConvTranspose2d(channels, channels, kernel, stride=factor, padding=factor // 2, bias=False)


def bilinear_init(layer: nn.ConvTranspose2d) -> None:
    """Set the weights that interpolate each channel bilinearly and mix none."""
    kernel, factor = layer.kernel_size[0], layer.stride[0]
    tent = 1 - (torch.arange(kernel) - (kernel - 1) / 2).abs() / factor
    channels = range(layer.in_channels)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[channels, channels] = torch.outer(tent, tent).to(layer.weight)


def max_unpool_2x2(values: Tensor, pooled: Tensor, source: Tensor) -> Tensor:
    """Put each value where the 2x2 max pooling of `source` found its maximum, 0 elsewhere.

    `source` [N, C, 2h, 2w], `pooled` its maxima [N, C, h, w], `values` [N, C, h, w] -> [N, C, 2h, 2w].
    Bit for bit `F.max_unpool2d(values, indices)` with the indices of `F.max_pool2d(source)`, and its
    gradient, ties included (the first maximum in reading order wins), but from operators that every
    exporter and runtime has. The last slot takes what the others leave: a NaN is handed on, not masked.
    """
    # Channels last, so that the four slots are interleaved in runs of C values, not one by one:
    # 5 to 20 % off a whole training step against pixel_shuffle, and 6 % off an ONNX Runtime run.
    values, pooled, source = (x.permute(0, 2, 3, 1) for x in (values, pooled, source))
    first = source[:, ::2, ::2] == pooled
    second = source[:, ::2, 1::2] == pooled
    third = source[:, 1::2, ::2] == pooled
    top = first | second
    zero = values.new_zeros(())
    upper = [torch.where(first, values, zero), torch.where(second & ~first, values, zero)]
    lower = [torch.where(third & ~top, values, zero), torch.where(top | third, zero, values)]
    rows = torch.stack([torch.stack(upper, dim=3), torch.stack(lower, dim=3)], dim=2)
    return rows.flatten(1, 2).flatten(2, 3).permute(0, 3, 1, 2)
