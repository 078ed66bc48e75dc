"""From settings as given to settings as resolved, and from a dataset to the description of a net for it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from segkit import __version__
from segkit.data.cases import Case
from segkit.data.survey import Frame
from segkit.errors import SegkitError
from segkit.imaging.fit import place
from segkit.model_metadata import ModelMetadata
from segkit.resources import compiler_for, granted_cpus
from segkit.training.checkpoint import NetDescription
from segkit.training.config import TrainConfig
from segkit.training.dataset import TrainingData, locate
from segkit.training.distributed import World
from segkit.training.precision import choose_precision

WIDTH_ON_GPU, WIDTH_ON_CPU = 64, 16
_MIXED_PIXELS = 0.1  # a training set whose pixel sizes differ by more than this share has no resolution


def resolve(config: TrainConfig, world: World) -> TrainConfig:
    """Fill in what `auto`, 0 and -1 stand for on this machine (the dataset's own values come later)."""
    device = world.device.type
    if config.system.compile and compiler_for(device) is None:
        what = "g++, or set CXX" if device == "cpu" else "gcc or clang, or set CC"
        raise SegkitError(f"--compile needs a compiler, and none is here; leave it out, or install {what}")
    workers = config.data.workers
    if workers == -1:
        workers = max(1, granted_cpus() // world.local_size) if config.data.loader == "files" else 0
    width = config.model.width or (WIDTH_ON_GPU if world.device.type == "cuda" else WIDTH_ON_CPU)
    return config.replace(
        data=world.broadcast_text(str(locate(config.data.data).resolve()) if world.is_main else ""),
        workers=workers if config.data.loader != "resident" else 0,
        width=64 if config.model.encoder and not config.model.width else width,
        device=world.device.type,
        gpus=world.size if world.size > 1 else config.system.gpus,
        precision=choose_precision(config.system.precision, world.device),
    )


def with_frame(config: TrainConfig, data: TrainingData) -> TrainConfig:
    """The configuration with the frame that the dataset gave it, where that can be said by flags."""
    height, width = data.frame.size
    return config.replace(size=height if height == width else config.data.size, fit=data.frame.fit)


def describe(config: TrainConfig, data: TrainingData, run_id: str) -> NetDescription:
    """The net of a run: its metadata, and the normalisation measured on the training slices."""
    case_set = data.case_set
    by_slice = config.model.normalise == "slice"
    count = len(case_set.channels)
    # In tissue levels air is 0 and tissue around 1; measuring finer than that would gain nothing.
    levels = ((0.5,) * count, (0.5,) * count)
    mean, std = levels if by_slice else data.survey.normalisation(data.rows("train"))
    metadata = ModelMetadata(
        model=config.model.model,
        width=config.model.width,
        classes=case_set.classes,
        channels=case_set.channels,
        size=data.frame.size,
        fit=data.frame.fit,
        mask_values=case_set.mask_values,
        split_sha256=data.split.sha256,
        run_id=run_id,
        licence=case_set.licence,
        segkit=__version__,
        pixel_mm=training_pixel(case_set.cases, data.frame),
        plane="axial" if any(case.spacing for case in case_set.cases) else "",
        half=config.model.half,
    )
    return NetDescription(metadata, mean, std, by_slice)


def job_description(config: TrainConfig, data: TrainingData) -> dict[str, str]:
    """The job in the words of a profile report: label -> value."""
    height, width = data.frame.size
    slices = f"{len(data.rows('train'))} slices of {height} x {width}"
    return {
        "net": f"{config.model.model}, width {config.model.width}",
        "data": f"{data.case_set.root.name} ({data.case_set.layout}), {slices}",
        "loader": config.data.loader,
        "batch a rank": str(config.data.batch),
        "crop": str(config.augment.crop) if config.augment.crop else "none",
        "precision": config.system.precision + (", compiled" if config.system.compile else ""),
        "segkit": __version__,
    }


def training_pixel(cases: Sequence[Case], frame: Frame) -> tuple[float, float] | None:
    """Height and width in millimetres of a pixel as the net sees it; None where cases do not say or differ."""
    seen = []
    for case in cases:
        if case.spacing is None:
            return None
        placed = place(case.shape, frame.size, frame.fit)
        seen.append([case.spacing[1 + axis] * placed.source[axis] / placed.scaled[axis] for axis in (0, 1)])
    pixels = np.array(seen)
    middle = np.median(pixels, axis=0)
    if (np.abs(pixels / middle - 1) > _MIXED_PIXELS).any():
        return None
    return float(middle[0]), float(middle[1])


def make_deterministic(config: TrainConfig) -> None:
    """Ask CUDA's libraries for reproducible kernels, or let cuDNN search for the fastest."""
    wanted = config.system.deterministic
    torch.backends.cudnn.deterministic = wanted
    torch.backends.cudnn.benchmark = not wanted
