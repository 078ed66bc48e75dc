"""Configuration of a training run: its components, and the whole as one object."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segkit.config import Checked, from_mapping, option, read_toml, to_toml
from segkit.data.config import AugmentConfig, DataConfig
from segkit.errors import ConfigError


@dataclass(frozen=True)
class ModelConfig(Checked):
    """The net."""

    model: str = option("all", "unet, fcn, segnet, another registered net, or all (the three in turn).")
    width: int = option(
        0, "Channels of the first level; 64 is the papers'. 0: 64 on a GPU, 16 on a CPU.", low=0, high=512
    )
    normalise: str = option(
        "slice",
        "slice: by each slice's own tissue level; dataset: by the training set's mean and deviation.",
        choices=("dataset", "slice"),
    )
    half: bool = option(
        False, "The finished net sees each slice at half its resolution, too, and the mean decides; with --coarse."
    )
    encoder: str = option("", "torchvision VGG16 weights (a local file) for the encoder of fcn or segnet, width 64.")


@dataclass(frozen=True)
class OptimConfig(Checked):
    """Optimiser, schedule and loss."""

    epochs: int = option(50, "Passes over the training slices.", low=1, high=100000)
    steps: int = option(0, "Stop after this many optimiser steps; 0: after the epochs.", low=0)
    lr: float = option(2e-3, "Peak learning rate (AdamW).", low=0, high=10)
    weight_decay: float = option(1e-2, "Decoupled weight decay.", low=0, high=1)
    warmup: float = option(0.05, "Share of the run with a rising learning rate; then a cosine.", low=0, high=1)
    accumulate: int = option(1, "Batches whose gradients make one step.", low=1, high=4096)
    clip: float = option(1.0, "Largest gradient norm; 0: not clipped.", low=0)
    ema: float = option(0.99, "Decay of the averaged weights that are evaluated; 0: none.", low=0, high=0.99999)
    dice: float = option(1.0, "Weight of the Dice loss beside cross-entropy.", low=0, high=100)
    fused: bool = option(True, "Fused optimiser kernel.")


@dataclass(frozen=True)
class SystemConfig(Checked):
    """Devices, precision and how the run is kept."""

    device: str = option("auto", "auto: CUDA where there is one.", choices=("auto", "cpu", "cuda"))
    gpus: int = option(
        0, "Processes (ranks) to start on this node; 0: one, or as torchrun or SLURM says.", low=0, high=64
    )
    precision: str = option(
        "auto", "auto: bf16 where the hardware has it, else fp32.", choices=("auto", "fp32", "bf16", "fp16")
    )
    channels_last: bool = option(True, "Channels-last memory format.")
    compile: bool = option(False, "torch.compile the net.")
    deterministic: bool = option(True, "Same seed, same result on one device (slower kernels on some GPUs).")
    seed: int = option(0, "Seed of the split, the order, the weights and the augmentation.", low=0, high=2**31 - 1)
    checkpoint_seconds: float = option(300.0, "Save at least this often (and at each epoch's end).", low=0)
    sample_seconds: float = option(
        0.5, "Seconds between samples of the devices for the profile; 0: none.", low=0, high=3600
    )
    tensorboard: bool = option(False, "Write TensorBoard scalars into the run, too.")
    export: bool = option(True, "Evaluate the test split and export the best checkpoint at the end.")


SECTIONS: dict[str, type[Checked]] = {
    "data": DataConfig,
    "augment": AugmentConfig,
    "model": ModelConfig,
    "optim": OptimConfig,
    "system": SystemConfig,
}


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run; `config.toml` is this, with every value as resolved."""

    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    augment: AugmentConfig = dataclasses.field(default_factory=AugmentConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    optim: OptimConfig = dataclasses.field(default_factory=OptimConfig)
    system: SystemConfig = dataclasses.field(default_factory=SystemConfig)

    def __post_init__(self) -> None:
        for key, value in (("size", self.data.size), ("crop", self.augment.crop)):
            if value % 32:
                raise ConfigError(key, value, "a multiple of 32")
        if self.augment.coarse and (self.augment.crop % 64 or not self.augment.crop):
            raise ConfigError("crop", self.augment.crop, "a multiple of 64 where a part of the run is coarse")

    @classmethod
    def from_sections(cls, sections: Mapping[str, Mapping[str, Any]]) -> TrainConfig:
        """Make it from parsed TOML; unknown sections and keys are refused by name."""
        for name in sections:
            if name not in SECTIONS:
                raise ConfigError(f"[{name}]", "", "one of the sections " + ", ".join(SECTIONS))
        parts = {name: from_mapping(kind, sections.get(name, {}), name) for name, kind in SECTIONS.items()}
        return cls(**parts)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path | None, flags: Mapping[str, Any] | None = None) -> TrainConfig:
        """A TOML file's values with the flags that were given laid over them; flags win."""
        sections: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
        if path is not None:
            for name, values in read_toml(path).items():
                if not isinstance(values, dict):
                    raise ConfigError(name, values, "inside a section: " + ", ".join(f"[{s}]" for s in SECTIONS))
                sections[name] = dict(values)
        for key, value in (flags or {}).items():
            sections[section_of(key)][key] = value
        return cls.from_sections(sections)

    def replace(self, **flags: Any) -> TrainConfig:
        """A copy with flat keys changed, e.g. `replace(width=16, epochs=2)`."""
        changed = {}
        for name in SECTIONS:
            part = getattr(self, name)
            mine = {key: value for key, value in flags.items() if key in vars(part)}
            changed[name] = dataclasses.replace(part, **mine)
        return TrainConfig(**changed)

    def to_toml(self) -> str:
        """The text of `config.toml`."""
        return to_toml({name: getattr(self, name) for name in SECTIONS})


def section_of(key: str) -> str:
    """The section that holds a flat key (keys are unique over all sections)."""
    for name, kind in SECTIONS.items():
        if key in kind.__dataclass_fields__:
            return name
    raise KeyError(key)
