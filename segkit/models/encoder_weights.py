"""Encoder weights from a local VGG16 file in torchvision's layout (`vgg16` or `vgg16_bn`)."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import torch
from torch import Tensor, nn

from segkit.errors import ConfigError, FileError
from segkit.models.fcn import FCN8s
from segkit.models.segnet import SegNet

PAPER_WIDTH = 64
_REMEDY = "give a state_dict of torchvision's vgg16_bn (or vgg16, for model fcn-plain)"
_NORM = ("weight", "bias", "running_mean", "running_var")
_CLASSIFIER = {"fc6": "classifier.0", "fc7": "classifier.3"}

Weights = dict[str, Tensor]


def load_encoder(net: nn.Module, path: Path) -> str:
    """Give VGG16's weights to the encoder of `net` (FCN-8s or SegNet, width 64), in place.

    In front of a batch norm a convolution has no bias here: the file's is taken off the running mean, which
    is the same function. A first layer of C channels, not 3, gets the mean of the three kernels times 3 / C
    for each, so that a grey image repeated C times gives what it gave as RGB. FCN-8s takes the fully
    connected layers as well, as convolutions, where the file has them.

    Returns:
        What was loaded and how it was adapted, in one line.

    Raises:
        ConfigError: `net` has no VGG16 encoder of width 64.
        FileError: the file cannot be read, or does not hold the weights that fit.
    """
    if not isinstance(net, FCN8s | SegNet):
        raise ConfigError("model", type(net).__name__, "fcn, fcn-plain or segnet where encoder weights are loaded")
    convs = [module for module in net.encoder.modules() if isinstance(module, nn.Conv2d)]
    if convs[0].out_channels != PAPER_WIDTH:
        raise ConfigError("width", convs[0].out_channels, f"{PAPER_WIDTH} where encoder weights are loaded")
    norms = [module for module in net.encoder.modules() if isinstance(module, nn.BatchNorm2d)]
    weights = _read(path)
    conv_keys, norm_keys = _feature_keys(weights)
    _check(path, weights, convs, norms, conv_keys, norm_keys)
    with torch.no_grad():
        for index, (conv, key) in enumerate(zip(convs, conv_keys, strict=True)):
            kernel = weights[f"{key}.weight"]
            kernel = kernel if index else adapt_channels(kernel, conv.in_channels)
            norm = norms[index] if norms else None
            if norm is not None:
                norm.load_state_dict({name: weights[f"{norm_keys[index]}.{name}"] for name in _NORM}, strict=False)
            _copy(conv, norm, kernel, weights[f"{key}.bias"])
        connected = isinstance(net, FCN8s) and _load_classifier(net, weights)
    parts = "13 convolutions" + (" and both fully connected layers" if connected else "")
    channels = convs[0].in_channels
    adapted = "" if channels == 3 else f"; the first layer's RGB kernels averaged onto {channels} channels"
    return f"{path}: {parts} loaded{adapted}"


def adapt_channels(kernel: Tensor, channels: int) -> Tensor:
    """RGB kernels [O, 3, h, w] -> [O, channels, h, w] of the same response to a grey image."""
    if channels == kernel.shape[1]:
        return kernel
    mean = kernel.mean(dim=1, keepdim=True) * (kernel.shape[1] / channels)
    return mean.expand(-1, channels, -1, -1)


def _copy(conv: nn.Conv2d, norm: nn.BatchNorm2d | None, kernel: Tensor, bias: Tensor) -> None:
    conv.weight.copy_(kernel)
    if conv.bias is not None:
        conv.bias.copy_(bias)
    elif norm is not None and norm.running_mean is not None:
        norm.running_mean -= bias


def _load_classifier(net: FCN8s, weights: Weights) -> bool:
    """fc6 and fc7 as convolutions (Long et al. 2015, section 3.1), if the file has both."""
    layers = []
    for name, key in _CLASSIFIER.items():
        modules = list(getattr(net, name))
        conv, norm = modules[0], modules[1] if isinstance(modules[1], nn.BatchNorm2d) else None
        kernel, bias = weights.get(f"{key}.weight"), weights.get(f"{key}.bias")
        if kernel is None or bias is None or kernel.numel() != conv.weight.numel():
            return False
        layers.append((conv, norm, kernel.view_as(conv.weight), bias))
    for layer in layers:
        _copy(*layer)
    return True


def _read(path: Path) -> Weights:
    if not path.is_file():
        raise FileError(path, "does not exist", _REMEDY)
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise FileError(path, "is no file of tensors that torch can load safely", _REMEDY) from error
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise FileError(path, "is not a state_dict", _REMEDY)
    return weights


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _feature_keys(weights: Weights) -> tuple[list[str], list[str]]:
    """Keys of the convolutions and of the batch norms, without the parameter's name, in the net's order."""
    found = (re.fullmatch(r"features\.(\d+)\.weight", key) for key in weights)
    indices = sorted(int(match[1]) for match in found if match)
    keys = [f"features.{index}" for index in indices]
    convs = [key for key in keys if weights[f"{key}.weight"].ndim == 4]
    return convs, [key for key in keys if weights[f"{key}.weight"].ndim == 1]


def _check(
    path: Path,
    weights: Weights,
    convs: list[nn.Conv2d],
    norms: list[nn.BatchNorm2d],
    conv_keys: list[str],
    norm_keys: list[str],
) -> None:
    """Raise FileError unless the file holds VGG16's 13 convolutions, with batch norm where the net has it."""
    expected = [(conv.out_channels, conv.in_channels if index else 3, 3, 3) for index, conv in enumerate(convs)]
    if [tuple(weights[f"{key}.weight"].shape) for key in conv_keys] != expected:
        raise FileError(path, "does not hold the 13 convolutions of VGG16", _REMEDY)
    if len(norm_keys) != len(norms):
        has, needs = ("no", "vgg16_bn") if norms else ("a", "vgg16")
        raise FileError(path, f"has {has} batch norm behind its convolutions", f"this model takes {needs}")
    wanted = [f"{key}.bias" for key in conv_keys] + [f"{key}.{name}" for key in norm_keys for name in _NORM]
    missing = [key for key in wanted if key not in weights]
    if missing:
        raise FileError(path, f"lacks {missing[0]}", _REMEDY)
    for key in wanted:
        if weights[key].shape != weights[key.rpartition(".")[0] + ".weight"].shape[:1]:
            raise FileError(path, f"has {key} in shape {tuple(weights[key].shape)}", _REMEDY)
