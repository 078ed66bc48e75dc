"""Checkpoints: tensors and plain values only, so that loading one can never run code."""

from __future__ import annotations

import errno
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from segkit.errors import FileError
from segkit.files import atomic_path
from segkit.model_metadata import ModelMetadata
from segkit.models.deployed import DeployedNet
from segkit.models.normalise import Normalise
from segkit.models.registry import build
from segkit.unwritable import is_full

FORMAT = 1


@dataclass(frozen=True)
class NetDescription:
    """All that is needed to build a net again and to feed it."""

    metadata: ModelMetadata
    mean: tuple[float, ...]  # of each channel, on the scale 0..1
    std: tuple[float, ...]
    by_slice: bool = False  # whether both count in tissue levels of the slice (models/normalise.py)

    def build(self) -> nn.Module:
        """The net with fresh weights."""
        data = self.metadata
        return build(data.model, in_channels=len(data.channels), classes=len(data.classes), width=data.width)

    def normalise(self) -> Normalise:
        """What the net's input goes through."""
        return Normalise(self.mean, self.std, by_slice=self.by_slice)

    def feeds_like(self, other: NetDescription) -> bool:
        """Whether both are the same net on the same data, whatever described them and however they are used."""
        mine, theirs = (
            replace(item.metadata, segkit="", pixel_mm=None, plane="", half=False) for item in (self, other)
        )
        return (mine, self.mean, self.std, self.by_slice) == (theirs, other.mean, other.std, other.by_slice)

    def to_plain(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        levels = {"mean": list(self.mean), "std": list(self.std), "by_slice": self.by_slice}
        return {"metadata": asdict(self.metadata), **levels}

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> NetDescription:
        """The inverse of `to_plain`."""
        metadata = ModelMetadata(**values["metadata"])
        return cls(metadata, tuple(values["mean"]), tuple(values["std"]), values.get("by_slice", False))


def save_checkpoint(path: Path, values: dict[str, Any]) -> None:
    """Write atomically, and durably: after a crash the file is the old checkpoint or the new one.

    Raises:
        FileError: it cannot be written, or the disk is full.
    """
    with atomic_path(path, durable=True) as temporary:
        try:
            torch.save({"format": FORMAT, **values}, temporary)
        except RuntimeError as error:  # torch does not say why a file cannot be written
            if not is_full(path):
                raise
            raise OSError(errno.ENOSPC, "No space left on device") from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint to the host. Raises FileError if it is absent, damaged or of another format."""
    if not path.exists():
        raise FileError(path, "does not exist", "train first, or name another run")
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FileError(path, f"is no checkpoint that can be loaded ({reason[:120]})") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise FileError(path, "is no checkpoint of segkit", "name a run's checkpoints/best.pt or last.pt")
    return values


def load_deployed(path: Path) -> tuple[DeployedNet, NetDescription]:
    """The net of a `best.pt`, as it is used: 8-bit pixels in, a mask out; in eval mode, on the host."""
    values = load_checkpoint(path)
    description = NetDescription.from_plain(values["description"])
    net = description.build()
    net.load_state_dict(values["net"])
    return DeployedNet(net, description.normalise(), half=description.metadata.half).eval(), description
