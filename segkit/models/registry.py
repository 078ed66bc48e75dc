"""Nets by name: segkit's own, and those that other packages register.

A package offers a net in its own `pyproject.toml`:

    [project.entry-points."segkit.models"]
    mynet = "mypackage.nets:build"

where `build(in_channels: int, classes: int, width: int) -> nn.Module` gives a net that turns float32
[N, in_channels, H, W], H and W multiples of 32, into logits [N, classes, H, W].
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import EntryPoint, entry_points

from torch import nn

from segkit.errors import ConfigError, SegkitError
from segkit.models.fcn import FCN8s
from segkit.models.segnet import SegNet
from segkit.models.unet import UNet

GROUP = "segkit.models"
MAX_CLASSES = 256  # a mask is uint8
CORE = ("unet", "fcn", "segnet")  # the nets that `--model all` stands for

Builder = Callable[[int, int, int], nn.Module]


@dataclass(frozen=True)
class ModelSpec:
    """A net that can be built by name."""

    name: str
    builder: Builder  # (in_channels, classes, width) -> net
    summary: str
    paper: str


_OWN = {
    spec.name: spec
    for spec in (
        ModelSpec("unet", UNet, "U-Net with batch norm", "Ronneberger et al. 2015, arXiv:1505.04597"),
        ModelSpec("fcn", FCN8s, "FCN-8s on VGG16 with batch norm", "Long et al. 2015, arXiv:1411.4038"),
        ModelSpec(
            "segnet",
            SegNet,
            "SegNet on VGG16 with batch norm",
            "Badrinarayanan et al. 2017, arXiv:1511.00561",
        ),
        ModelSpec(
            "fcn-plain",
            partial(FCN8s, batch_norm=False),
            "FCN-8s on VGG16 as published, for encoder weights without batch norm",
            "Long et al. 2015, arXiv:1411.4038",
        ),
    )
}


def names() -> tuple[str, ...]:
    """Every name that `build` knows: segkit's own, then those of other packages (which are not loaded)."""
    return (*_OWN, *sorted(_registered()))


def spec(name: str) -> ModelSpec:
    """The net of that name; another package's is imported now.

    Raises:
        ConfigError: no net has that name.
        SegkitError: the package that registered it is broken.
    """
    if name in _OWN:
        return _OWN[name]
    registered = _registered()
    if name not in registered:
        raise ConfigError("model", name, ", ".join(names()))
    return _load(registered[name])


def build(name: str, *, in_channels: int, classes: int, width: int) -> nn.Module:
    """A new net with random weights. Raises what `spec` does, and ConfigError for a number that cannot be."""
    if in_channels < 1:
        raise ConfigError("in_channels", in_channels, "1 or more")
    if not 2 <= classes <= MAX_CLASSES:
        raise ConfigError("classes", classes, f"2 to {MAX_CLASSES}, background included")
    if width < 1:
        raise ConfigError("width", width, "1 or more")
    found = spec(name)
    if name in _OWN:
        return found.builder(in_channels, classes, width)
    try:
        net = found.builder(in_channels, classes, width)
    except Exception as error:
        raise SegkitError(f"model {name!r} cannot be built: {_one_line(error)}; {found.paper} registered it") from error
    if not isinstance(net, nn.Module):
        raise SegkitError(f"model {name!r}: its builder gave a {type(net).__name__}, not a torch.nn.Module")
    return net


def _registered() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP) if entry.name not in _OWN}


def _load(entry: EntryPoint) -> ModelSpec:
    source = f"package {entry.dist.name}" if entry.dist else entry.value
    try:
        builder = entry.load()
    except Exception as error:  # whatever a foreign module raises while it is imported
        reason = f"cannot be loaded from {entry.value} ({_one_line(error)})"
        raise SegkitError(f"model {entry.name!r}: {reason}; mend or remove {source}") from error
    if not callable(builder):
        raise SegkitError(f"model {entry.name!r}: {entry.value} is not callable; mend or remove {source}")
    return ModelSpec(entry.name, builder, _summary(builder), source)


def _summary(builder: Builder) -> str:
    return (inspect.getdoc(builder) or "").partition("\n")[0]


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
