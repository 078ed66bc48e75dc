"""The epochs' figures for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segkit.errors import SegkitError


class NoScalars:
    """Where nobody asked for them."""

    def add(self, line: Mapping[str, Any]) -> None:
        """Nothing is written."""


class TensorBoard:
    """Event files that TensorBoard reads."""

    def __init__(self, folder: Path) -> None:
        """Start the event files.

        Raises:
            SegkitError: the package tensorboard is not installed.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise SegkitError(
                "--tensorboard needs the package tensorboard; pip install 'segkit[tensorboard]'"
            ) from error
        self._writer: Any = SummaryWriter(str(folder))

    def add(self, line: Mapping[str, Any]) -> None:
        """One line of `metrics.jsonl`, at its step: losses, Dice, images/s, stall share."""
        for key, value in line.items():
            if key not in ("epoch", "step") and isinstance(value, int | float):
                self._writer.add_scalar(_tag(key), value, line["step"])
        self._writer.flush()


def _tag(key: str) -> str:
    """TensorBoard groups tags by what stands before the slash."""
    group = (
        "speed"
        if key in ("images", "images_per_s", "seconds", "stall")
        else "val"
        if key.startswith("val_")
        else "train"
    )
    return f"{group}/{key.removeprefix('val_').removeprefix('train_')}"
