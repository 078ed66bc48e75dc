"""The plain PyTorch loop: Pillow, a Dataset, the default DataLoader, AdamW. Augmentation as in many a notebook."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import chain, repeat

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from benchmarks.peers.process import CHANNELS, CLASSES, Job, Task, Tick, serve
from segkit.models.registry import build


class Slices(Dataset[tuple[Tensor, Tensor]]):
    """Decodes at each access."""

    def __init__(self, job: Job, *, augment: bool) -> None:
        self.job, self.augment = job, augment

    def __len__(self) -> int:
        return len(self.job.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, mask = Image.open(self.job.images[index]), Image.open(self.job.masks[index])
        if self.augment:
            image, mask = turned(image, mask)
        pixels = torch.from_numpy(np.array(image))
        return pixels, torch.from_numpy((np.array(mask) > 0).astype(np.uint8))


def turned(image: Image.Image, mask: Image.Image) -> tuple[Image.Image, Image.Image]:
    """A flip and a rotation."""
    if random.random() < 0.5:
        image, mask = (one.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for one in (image, mask))
    angle = random.uniform(-15, 15)
    return image.rotate(angle, Image.Resampling.BILINEAR), mask.rotate(angle, Image.Resampling.NEAREST)


def loader(job: Job, *, augment: bool) -> DataLoader[tuple[Tensor, Tensor]]:
    """The default one."""
    return DataLoader(Slices(job, augment=augment), job.batch, shuffle=True, num_workers=job.workers, drop_last=True)


class Loop:
    """Trains a net; its batches are uint8 [B, H, W, C] and [B, H, W], or float [B, C, H, W] and labels."""

    def __init__(self, job: Job) -> None:
        self.net = build("unet", in_channels=CHANNELS, classes=CLASSES, width=job.width).train()
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=2e-3)

    def step(self, images: Tensor, masks: Tensor) -> float:
        """One; the loss is read, as loops do to show it."""
        x = images.permute(0, 3, 1, 2).float() / 255 if images.dtype == torch.uint8 else images
        loss = dice_cross_entropy(self.net(x), masks.long())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()


def dice_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy and soft Dice of the foreground."""
    probability, truth = logits.softmax(dim=1)[:, 1], (target == 1).float()
    dice = (2 * (probability * truth).sum() + 1) / (probability.sum() + truth.sum() + 1)
    return nn.functional.cross_entropy(logits, target) + 1 - dice


def endless(batches: DataLoader[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """Epoch after epoch."""
    return chain.from_iterable(repeat(batches))


def train(job: Job) -> Task:
    """On files."""
    return train_on(job, loader(job, augment=True))


def train_on(job: Job, batches: DataLoader[tuple[Tensor, Tensor]]) -> Task:
    """The plain loop over somebody's batches."""
    loop = Loop(job)

    def run(count: int, tick: Tick) -> None:
        for _, batch in zip(range(count), endless(batches), strict=False):
            loop.step(*batch)
            tick()

    return run


def synthetic(job: Job) -> Task:
    """On one batch that is in memory."""
    loop = Loop(job)
    images = torch.randint(0, 256, (job.batch, job.size, job.size, CHANNELS), dtype=torch.uint8)
    masks = (torch.rand(job.batch, job.size, job.size) < 0.02).to(torch.uint8)

    def run(count: int, tick: Tick) -> None:
        for _ in range(count):
            loop.step(images, masks)
            tick()

    return run


def load(job: Job) -> Task:
    """From files to uint8 batches, without augmentation."""
    return load_from(loader(job, augment=False))


def load_from(batches: DataLoader[tuple[Tensor, Tensor]]) -> Task:
    """Somebody's batches, not used."""

    def run(count: int, tick: Tick) -> None:
        for _ in zip(range(count), endless(batches), strict=False):
            tick()

    return run


def flips_and_affine(job: Job) -> Task:
    """In NumPy's and PyTorch's usual way: flip, then affine_grid and grid_sample of the batch in float32."""
    images = torch.randint(0, 256, (job.batch, job.size, job.size, CHANNELS), dtype=torch.uint8)
    masks = (torch.rand(job.batch, job.size, job.size) < 0.02).to(torch.uint8)

    def run(count: int, tick: Tick) -> None:
        for _ in range(count):
            x, y = images.permute(0, 3, 1, 2).float() / 255, masks[:, None].float()
            angle = (torch.rand(job.batch) * 2 - 1) * 0.26
            zoom, sign = 1 + (torch.rand(job.batch) * 2 - 1) * 0.15, torch.where(torch.rand(job.batch) < 0.5, -1.0, 1.0)
            cos, sin, zero = angle.cos() * zoom, angle.sin() * zoom, torch.zeros(job.batch)
            theta = torch.stack([cos * sign, -sin, zero, sin * sign, cos, zero], dim=1).view(-1, 2, 3)
            grid = F.affine_grid(theta, list(x.shape), align_corners=False)
            F.grid_sample(x, grid, align_corners=False)
            F.grid_sample(y, grid, mode="nearest", align_corners=False).long()
            tick()

    return run


if __name__ == "__main__":
    serve({"train": train, "synthetic": synthetic, "load": load, "augment": flips_and_affine})
