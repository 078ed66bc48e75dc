"""nnU-Net's data loader and augmentation alone: its blosc2 files, nnUNetDataLoader, its default transforms.

Its planning, patches larger than the image for rotated corners, deep supervision and trainer stay out: each slice is a
case of one slice, the patch is the slice, and the plain loop trains on the batches.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.peers.plain import Loop
from benchmarks.peers.process import CHANNELS, CLASSES, Job, Task, Tick, serve
from benchmarks.peers.without_torchvision import name_operators

for key in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
    os.environ.setdefault(key, "/nonexistent")  # it warns where they are not set; nothing here needs them
name_operators()

from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform  # noqa: E402
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform  # noqa: E402
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms  # noqa: E402
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader  # noqa: E402
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2  # noqa: E402
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer  # noqa: E402
from nnunetv2.utilities.label_handling.label_handling import LabelManager  # noqa: E402

Batches = Iterator[dict[str, Tensor]]


def write_cases(job: Job, folder: Path) -> None:
    """Each slice as nnU-Net's preprocessing leaves it: z-scored float32, places of the foreground beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, (image, mask) in enumerate(zip(job.images, job.masks, strict=True)):
        pixels = np.array(Image.open(image)).transpose(2, 0, 1)[:, None].astype(np.float32)
        pixels = (pixels - pixels.mean((1, 2, 3), keepdims=True)) / (pixels.std((1, 2, 3), keepdims=True) + 1e-8)
        labels = (np.array(Image.open(mask)) > 0).astype(np.int8)[None, None]
        places = {label: np.argwhere(labels == label)[:10000] for label in range(1, CLASSES)}
        name = str(folder / f"slice_{index:05d}")
        nnUNetDatasetBlosc2.save_case(pixels, labels, {"class_locations": places}, name)


def loader(job: Job, transforms: ComposeTransforms | None) -> Batches:
    """nnU-Net's, in this process."""
    folder = Path(job.scratch) / "preprocessed"
    if not folder.exists():
        write_cases(job, folder)
    labels, patch = LabelManager({"background": 0, "tumor": 1}, None), (job.size, job.size)
    found: Batches = nnUNetDataLoader(
        nnUNetDatasetBlosc2(str(folder)), job.batch, patch, patch, labels, 0.33, None, None, transforms=transforms
    )
    return found


def train(job: Job) -> Task:
    """The default trainer's transforms, the plain loop."""
    patch, angle = (job.size, job.size), (-np.pi, np.pi)
    batches = loader(job, nnUNetTrainer.get_training_transforms(patch, angle, None, (0, 1), False))
    loop = Loop(job)

    def run(count: int, tick: Tick) -> None:
        for _ in range(count):
            batch = next(batches)
            loop.step(batch["data"], batch["target"][:, 0])
            tick()

    return run


def load(job: Job) -> Task:
    """From blosc2 files to float32 batches, without augmentation."""
    batches = loader(job, None)

    def run(count: int, tick: Tick) -> None:
        for _ in range(count):
            next(batches)
            tick()

    return run


def augment(job: Job) -> Task:
    """batchgeneratorsv2's rotation, scaling and mirroring, one image at a time, collated."""
    turn = ComposeTransforms(
        [
            SpatialTransform(
                (job.size, job.size), 0, False, p_elastic_deform=0, p_rotation=1, rotation=(-0.26, 0.26), p_scaling=1,
                scaling=(0.85, 1.15), p_synchronize_scaling_across_axes=1, bg_style_seg_sampling=False,
            ),
            MirrorTransform((1,)),
        ]
    )  # fmt: skip
    images = torch.rand(job.batch, CHANNELS, job.size, job.size)
    masks = (torch.rand(job.batch, 1, job.size, job.size) < 0.02).to(torch.int16)

    def run(count: int, tick: Tick) -> None:
        for _ in range(count):
            found = [turn(image=image, segmentation=mask) for image, mask in zip(images, masks, strict=True)]
            torch.stack([one["image"] for one in found])
            torch.stack([one["segmentation"] for one in found]).long()
            tick()

    return run


if __name__ == "__main__":
    serve({"train": train, "load": load, "augment": augment})
