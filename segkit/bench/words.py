"""How cells are called."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from segkit.bench.rows import Row
from segkit.bench.values import shown
from segkit.config import Value

NETS = {"unet": "U-Net", "fcn": "FCN", "segnet": "SegNet"}
_UNITS = {"gpus": "rank", "workers": "worker", "epochs": "epoch", "steps": "step"}


_FIRST = ("model", "gpus", "workers", "loader")


def ordered(keys: Iterable[str]) -> list[str]:
    """Keys in the order in which a reader expects them."""
    return sorted(keys, key=lambda key: _FIRST.index(key) if key in _FIRST else len(_FIRST))


def net(name: object) -> str:
    """The net as papers call it."""
    return NETS.get(str(name), str(name))


def setting(key: str, value: Value) -> str:
    """A setting with its value: "2 ranks", "packed", "bf16", "channels_last off"."""
    if key == "model":
        return net(value)
    if key in _UNITS:
        return f"{value} {_UNITS[key]}{'' if value == 1 else 's'}"
    if key in ("loader", "precision"):
        return str(value)
    return f"{key.replace('_', ' ')} {shown(value)}"


def settings(values: Mapping[str, Value], keys: Iterable[str]) -> str:
    """Some of the settings in a line."""
    return ", ".join(setting(key, values[key]) for key in keys if key in values)


def cell_name(row: Row, axes: Iterable[str]) -> str:
    """What tells a cell from the others of its study."""
    names = ordered(key for key in axes if key in row.settings)
    return settings(row.settings, names or ["model", "gpus", "workers", "loader"])
