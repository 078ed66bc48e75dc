"""segmentation_models_pytorch with Lightning at default settings: files, albumentations, smp's loss and scores."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.peers.process import CHANNELS, CLASSES, Job, Task, Tick, serve
from benchmarks.peers.without_torchvision import name_operators

name_operators()

import albumentations as A  # noqa: E402
import cv2  # noqa: E402
import lightning as L  # noqa: E402
import segmentation_models_pytorch as smp  # noqa: E402

from segkit.models.registry import build  # noqa: E402


def transforms() -> A.Compose:
    """About what segkit does by default, but for the elastic part."""
    return A.Compose(
        [
            A.HorizontalFlip(p=0.5),
            A.Affine(scale=(0.85, 1.15), rotate=(-15, 15), p=0.75),
            A.RandomGamma(p=0.5),
            A.RandomBrightnessContrast(p=0.5),
            A.GaussNoise(p=0.5),
        ]
    )


class Slices(Dataset[tuple[Tensor, Tensor]]):
    """Decodes and augments at each access."""

    def __init__(self, job: Job) -> None:
        self.job, self.transforms = job, transforms()

    def __len__(self) -> int:
        return len(self.job.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image = np.array(Image.open(self.job.images[index]))
        mask = (np.array(Image.open(self.job.masks[index])) > 0).astype(np.uint8)
        found = self.transforms(image=image, mask=mask)
        x = torch.from_numpy(found["image"].transpose(2, 0, 1).astype(np.float32) / 255)
        return x, torch.from_numpy(found["mask"]).long()


class Module(L.LightningModule):
    """As in smp's examples: its Dice loss (and cross-entropy), its scores of each step."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = build("unet", in_channels=CHANNELS, classes=CLASSES, width=width)
        self.dice = smp.losses.DiceLoss("multiclass")
        self.cross_entropy = torch.nn.CrossEntropyLoss()

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        x, y = batch
        logits = self.net(x)
        loss: Tensor = self.dice(logits, y) + self.cross_entropy(logits, y)
        counts = smp.metrics.get_stats(logits.argmax(dim=1), y, mode="multiclass", num_classes=CLASSES)
        self.log("train_loss", loss, prog_bar=True)
        self.log("train_iou", smp.metrics.iou_score(*counts, reduction="micro"), prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=2e-3)


class Ticks(L.Callback):
    """Tells when a step has ended."""

    def __init__(self, tick: Tick) -> None:
        self.tick = tick

    def on_train_batch_end(self, *_: Any) -> None:
        self.tick()


def train(job: Job) -> Task:
    """Trainer.fit of so many steps."""
    module = Module(job.width)
    batches = DataLoader(Slices(job), job.batch, shuffle=True, num_workers=job.workers, drop_last=True)

    def run(count: int, tick: Tick) -> None:
        L.Trainer(max_steps=count, default_root_dir=job.scratch, callbacks=[Ticks(tick)]).fit(module, batches)

    return run


def augment(job: Job) -> Task:
    """albumentations' flip and affine change, one image at a time."""
    cv2.setNumThreads(job.threads)
    turn = A.Compose([A.HorizontalFlip(p=0.5), A.Affine(scale=(0.85, 1.15), rotate=(-15, 15), p=1.0)])
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (job.batch, job.size, job.size, CHANNELS), np.uint8)
    masks = (random.random((job.batch, job.size, job.size)) < 0.02).astype(np.uint8)

    def run(count: int, tick: Tick) -> None:
        for _ in range(count):
            found = [turn(image=image, mask=mask) for image, mask in zip(images, masks, strict=True)]
            torch.from_numpy(np.stack([one["image"] for one in found])).permute(0, 3, 1, 2).float() / 255
            torch.from_numpy(np.stack([one["mask"] for one in found])).long()
            tick()

    return run


if __name__ == "__main__":
    serve({"train": train, "augment": augment})
