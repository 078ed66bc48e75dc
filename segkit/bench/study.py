"""A study: which cells are measured, how often and in which order.

[study]
hold = "rank"
repeats = 3

[settings]              # the flags of `segkit train`; a list is an axis of the grid
model = ["unet", "fcn"]
gpus = [1, 2]
steps = 40
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segkit.bench.values import checked_key, parse, parse_all
from segkit.config import Checked, Value, flag, from_mapping, option, read_toml, to_toml
from segkit.errors import ConfigError
from segkit.files import sha256_of
from segkit.training.config import TrainConfig

HOLDS = ("rank", "global")
Settings = dict[str, Value]


@dataclass(frozen=True)
class StudyConfig(Checked):
    """The study."""

    hold: str = option(
        "rank",
        "What --batch is of, and so what stays the same where ranks are added: each rank's batch, or the global one.",
        choices=HOLDS,
    )
    repeats: int = option(3, "Times that every cell is measured; each round has an order of its own.", low=1, high=1000)
    shuffle_seed: int = option(0, "Seed of the order of the cells.", low=0, high=2**31 - 1)
    accuracy: bool = option(False, "Evaluate the test split of every cell, too; train for long enough.")
    limit: float = option(0.0, "Seconds after which a cell counts as failed; 0: no limit.", low=0)
    techniques: str = option("", "Of an ablation: what is added to the plain loop, in this order: key=value,...")


@dataclass(frozen=True)
class Cell:
    """One setting of the grid: the flags of a training."""

    settings: Settings
    hold: str = "rank"

    @property
    def id(self) -> str:
        """A name for good: the same settings have it in every study."""
        return sha256_of({"settings": self.settings, "hold": self.hold})[:12]

    def value(self, key: str) -> Value:
        """A setting, be it given or `segkit train`'s default; `batch` is of each rank."""
        config = TrainConfig.load(None, self.settings)
        parts = (vars(getattr(config, part.name)) for part in dataclasses.fields(config))
        found: Value = next(part[key] for part in parts if key in part)
        return found

    def flags(self) -> list[str]:
        """The settings as flags of `segkit train`."""
        return [flag(key, value) for key, value in self.settings.items()]


@dataclass(frozen=True)
class Measurement:
    """A cell in one of the rounds."""

    cell: Cell
    repeat: int

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{self.cell.id}-r{self.repeat}"


@dataclass(frozen=True)
class Study:
    """A grid of cells; with techniques, an ablation at each point of the grid."""

    config: StudyConfig = field(default_factory=StudyConfig)
    settings: Mapping[str, Value | list[Value]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path | None, settings: Mapping[str, str], flags: Mapping[str, Any]) -> Study:
        """A TOML file's study with the flags laid over it; `settings` are texts such as "1,2,4".

        Raises:
            ConfigError: a key or a value that `segkit train` would refuse. FileError: the file cannot be read.
        """
        parsed = read_toml(path) if path is not None else {}
        for name in parsed:
            if name not in ("study", "settings") or not isinstance(parsed[name], dict):
                raise ConfigError(name, parsed[name], "one of the sections [study], [settings]")
        config = from_mapping(StudyConfig, {**parsed.get("study", {}), **flags}, "study")
        given = {key: _checked_values(key, value) for key, value in parsed.get("settings", {}).items()}
        given |= {key: parse_all(key, text) for key, text in settings.items()}
        return cls(config, given).checked()

    def checked(self) -> Study:
        """The study, if each of its cells can be trained. Raises ConfigError."""
        if not self.cells():
            raise ConfigError("settings", dict(self.settings), "at least one value for every axis")
        for cell in self.cells():
            TrainConfig.load(None, cell.settings)
        return self

    def replace(self, **settings: Value | list[Value]) -> Study:
        """A copy with other settings laid over."""
        return dataclasses.replace(self, settings={**self.settings, **settings})

    def with_techniques(self, techniques: str) -> Study:
        """A copy as an ablation."""
        return dataclasses.replace(self, config=dataclasses.replace(self.config, techniques=techniques))

    @property
    def axes(self) -> dict[str, list[Value]]:
        """The settings that have more than one value."""
        return {key: value for key, value in self.settings.items() if isinstance(value, list) and len(value) > 1}

    @property
    def varied(self) -> list[str]:
        """The settings in which cells may differ."""
        return list(dict.fromkeys([*self.axes, *(key for key, _ in self.techniques)]))

    @property
    def techniques(self) -> list[tuple[str, Value]]:
        """What an ablation adds, in this order; empty for a sweep. Raises ConfigError."""
        found = []
        for word in filter(None, (word.strip() for word in self.config.techniques.split(","))):
            key, sign, text = word.partition("=")
            if not sign:
                raise ConfigError("techniques", word, "key=value, with commas between, e.g. loader=packed,compile=on")
            found.append((checked_key(key.strip()), parse(key.strip(), text.strip())))
        return found

    def points(self) -> list[Settings]:
        """Every combination of the axes' values."""
        values = {key: value if isinstance(value, list) else [value] for key, value in self.settings.items()}
        return [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())]

    def cells(self) -> list[Cell]:
        """Every cell once. Raises ConfigError for a global batch that its ranks cannot share."""
        from segkit.bench.ablation import variants

        found = (v for point in self.points() for v in variants(point, self.techniques))
        return list({cell.id: cell for cell in (self.cell(settings) for settings in found)}.values())

    def cell(self, settings: Settings) -> Cell:
        """The cell of a point of the grid; settings that mean the same give the same cell."""
        chosen = dict(settings)
        ranks = max(1, int(chosen.get("gpus", 1)))
        chosen["gpus"] = ranks
        if chosen.get("loader") == "resident":
            chosen["workers"] = 0
        if self.config.hold == "global":
            whole = int(chosen.get("batch", TrainConfig().data.batch))
            if whole % ranks:
                raise ConfigError("batch", whole, f"a multiple of the {ranks} ranks that share it (--hold global)")
            chosen["batch"] = whole // ranks
        return Cell(dict(sorted(chosen.items())), self.config.hold)

    def plan(self) -> list[Measurement]:
        """All measurements, in the order in which they are made.

        Every round has each cell once, in an order of its own, so that a machine that drifts does not look like
        an effect of what the grid happens to vary last.
        """
        cells = self.cells()
        order = []
        for repeat in range(self.config.repeats):
            chosen = list(cells)
            random.Random(f"{self.config.shuffle_seed} {repeat}").shuffle(chosen)
            order += [Measurement(cell, repeat) for cell in chosen]
        return order

    def to_toml(self) -> str:
        """The study as `load` reads it."""
        lines = [f"{key} = {json.dumps(value)}" for key, value in self.settings.items()]
        return to_toml({"study": self.config}) + "\n[settings]\n" + "\n".join(lines) + "\n"


def _checked_values(key: str, value: Any) -> Value | list[Value]:
    """A value from TOML, or a list of them."""
    checked_key(key)
    several: Sequence[Any] = value if isinstance(value, list) else [value]
    if not all(isinstance(one, bool | int | float | str) for one in several):
        raise ConfigError(f"settings.{key}", value, "a value, or a list of values")
    return _one_or_all([model for one in several for model in expanded(key, one)])


def expanded(key: str, value: Value) -> Iterable[Value]:
    """The values that a word stands for: the model `all` is the three nets."""
    if key == "model" and value == "all":
        from segkit.models.registry import CORE

        return CORE
    return (value,)


def _one_or_all(values: list[Value]) -> Value | list[Value]:
    return values[0] if len(values) == 1 else values
