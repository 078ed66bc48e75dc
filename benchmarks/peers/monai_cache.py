"""MONAI: CacheDataset (decoded once, into memory), dictionary transforms, its DataLoader, DiceCELoss."""

from __future__ import annotations

import math

import numpy as np
import torch
from monai.data import CacheDataset, DataLoader
from monai.losses import DiceCELoss
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    LoadImaged,
    RandAdjustContrastd,
    RandAffined,
    RandFlipd,
    RandGaussianNoised,
    RandomizableTransform,
    RandScaleIntensityd,
    ScaleIntensityRanged,
)

from benchmarks.peers.process import CHANNELS, CLASSES, Job, Task, Tick, serve
from segkit.models.registry import build

KEYS = ("image", "mask")


def decoded() -> list[object]:
    """What is done once and cached."""
    return [
        LoadImaged(KEYS, reader="PILReader"),
        EnsureChannelFirstd("image", channel_dim=-1),
        EnsureChannelFirstd("mask", channel_dim="no_channel"),
        ScaleIntensityRanged(KEYS, 0, 255, 0, 1),
    ]


def flips_and_affine(probability: float = 1.0) -> list[RandomizableTransform]:
    """As segkit's defaults."""
    return [
        RandFlipd(KEYS, prob=0.5, spatial_axis=1),
        RandAffined(
            KEYS,
            prob=probability,
            rotate_range=math.radians(15),
            scale_range=(0.15, 0.15),
            mode=("bilinear", "nearest"),
            padding_mode="zeros",
        ),
    ]


def intensity() -> list[RandomizableTransform]:
    """As segkit's defaults."""
    return [
        RandAdjustContrastd("image", prob=1.0, gamma=(0.67, 1.5)),
        RandScaleIntensityd("image", factors=0.3, prob=1.0),
        RandGaussianNoised("image", prob=1.0, std=0.02),
    ]


def loader(job: Job, random: list[RandomizableTransform]) -> DataLoader:
    """All slices cached."""
    files = [dict(zip(KEYS, pair, strict=True)) for pair in zip(job.images, job.masks, strict=True)]
    slices = CacheDataset(files, Compose([*decoded(), *random]), num_workers=None, progress=False)
    return DataLoader(slices, batch_size=job.batch, shuffle=True, num_workers=job.workers, drop_last=True)


def train(job: Job) -> Task:
    """MONAI's usual loop."""
    batches = loader(job, [*flips_and_affine(0.75), *intensity()])
    net = build("unet", in_channels=CHANNELS, classes=CLASSES, width=job.width).train()
    optimizer, loss_of = torch.optim.AdamW(net.parameters(), lr=2e-3), DiceCELoss(to_onehot_y=True, softmax=True)

    def run(count: int, tick: Tick) -> None:
        done = 0
        while done < count:
            for batch in batches:
                optimizer.zero_grad()
                loss = loss_of(net(batch["image"]), batch["mask"])
                loss.backward()
                optimizer.step()
                loss.item()
                tick()
                done += 1
                if done == count:
                    break

    return run


def load(job: Job) -> Task:
    """From the cache to float32 batches, without augmentation."""
    batches = loader(job, [])

    def run(count: int, tick: Tick) -> None:
        done = 0
        while done < count:
            for _ in batches:
                tick()
                done += 1
                if done == count:
                    break

    return run


def augment(job: Job) -> Task:
    """Flip and affine change, one image at a time, collated."""
    turn = Compose(flips_and_affine())
    random = np.random.default_rng(0)
    images = torch.from_numpy(random.random((job.batch, CHANNELS, job.size, job.size), np.float32))
    masks = torch.from_numpy((random.random((job.batch, 1, job.size, job.size)) < 0.02).astype(np.float32))

    def run(count: int, tick: Tick) -> None:
        for _ in range(count):
            found = [turn({"image": image, "mask": mask}) for image, mask in zip(images, masks, strict=True)]
            torch.stack([one["image"] for one in found])
            torch.stack([one["mask"] for one in found]).long()
            tick()

    return run


if __name__ == "__main__":
    serve({"train": train, "load": load, "augment": augment})
