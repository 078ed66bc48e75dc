"""Configuration of the data side: what is read, in which order, and how it is augmented."""

from __future__ import annotations

from dataclasses import dataclass

from segkit.config import Checked, option

LOADERS = ("files", "packed", "resident")
AUTO_WORKERS = -2  # measure before the training begins


@dataclass(frozen=True)
class DataConfig(Checked):
    """Where the slices come from and how they reach the device."""

    data: str = option("", "Dataset folder. Default: SEGKIT_DATA, else one found here, else a phantom.")
    loader: str = option(
        "packed",
        "files: decode at each access; packed: one memory map; resident: all on the device.",
        choices=LOADERS,
    )
    workers: int = option(
        -1,
        "Loader processes; -1: the CPUs granted for 'files', else none; auto: try them and take the best.",
        low=-1,
        high=1024,
        words={"auto": AUTO_WORKERS},
    )
    prefetch: int = option(2, "Batches each worker keeps ready.", low=1, high=64)
    pin: bool = option(True, "Page-locked host memory for batches on their way to a GPU.")
    batch: int = option(16, "Slices a step on each rank.", low=1, high=65536)
    split: str = option("", "Split file (segkit data split). Default: 70/15/15 by patient, from the seed.")
    size: int = option(0, "Training size in pixels, a multiple of 32; 0: the dataset's own.", low=0, high=4096)
    fit: str = option(
        "auto",
        "How other sizes fit: scale, pad, or auto (scale if all are equal).",
        choices=("auto", "scale", "pad"),
    )
    balance: float = option(
        0.0, "Share of each batch drawn from slices with tumour; 0: each slice once.", low=0, high=1
    )
    skip_bad: bool = option(False, "Leave unreadable slices out, naming them, instead of stopping.")


@dataclass(frozen=True)
class AugmentConfig(Checked):
    """Random changes to a training batch, made on the device; 0 turns one off."""

    augment: bool = option(True, "Augment the training slices.")
    flip: float = option(0.5, "Probability of a left-right flip.", low=0, high=1)
    warp: float = option(0.75, "Probability of the geometric changes (rotation, scale, elastic).", low=0, high=1)
    rotate: float = option(15.0, "Largest rotation in degrees.", low=0, high=180)
    scale: float = option(0.15, "Largest relative change of size.", low=0, high=0.9)
    elastic: float = option(4.0, "Standard deviation of the elastic displacement in pixels.", low=0, high=100)
    gamma: float = option(0.4, "Largest change of log gamma, of each channel for itself.", low=0, high=3)
    brightness: float = option(0.3, "Largest relative change of each channel's intensity.", low=0, high=1)
    bias: float = option(0.0, "Standard deviation of the log of a smooth bias field.", low=0, high=1)
    missing: float = option(
        0.0, "Probability that one or more channels are replaced by FLAIR, as for missing sequences.", low=0, high=1
    )
    noise: float = option(0.02, "Largest standard deviation of added noise (full scale 1).", low=0, high=1)
    coarse: float = option(0.0, "Share of the run, from its start, at half the resolution.", low=0, high=1)
    crop: int = option(0, "Train on random crops of this size, a multiple of 32; 0: whole slices.", low=0, high=4096)
