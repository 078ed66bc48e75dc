"""OpenCV alone: what a person gets who writes flip and warp by hand, on uint8."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from benchmarks.peers.process import CHANNELS, Job, Task, Tick, serve


def augment(job: Job) -> Task:
    """Flip and affine change, one image at a time, collated."""
    cv2.setNumThreads(job.threads)
    random, size = np.random.default_rng(0), (job.size, job.size)
    images = random.integers(0, 256, (job.batch, *size, CHANNELS), np.uint8)
    masks = (random.random((job.batch, *size)) < 0.02).astype(np.uint8)

    def turned(image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        middle, zoom = (job.size / 2, job.size / 2), random.uniform(0.85, 1.15)
        matrix = cv2.getRotationMatrix2D(middle, random.uniform(-15, 15), zoom)
        if random.random() < 0.5:
            image, mask = cv2.flip(image, 1), cv2.flip(mask, 1)
        moved = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR)
        return moved, cv2.warpAffine(mask, matrix, size, flags=cv2.INTER_NEAREST)

    def run(count: int, tick: Tick) -> None:
        for _ in range(count):
            found = [turned(image, mask) for image, mask in zip(images, masks, strict=True)]
            torch.from_numpy(np.stack([image for image, _ in found])).permute(0, 3, 1, 2).float() / 255
            torch.from_numpy(np.stack([mask for _, mask in found])).long()
            tick()

    return run


if __name__ == "__main__":
    serve({"augment": augment})
