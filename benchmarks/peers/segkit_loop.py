"""segkit as `segkit train` runs it: the real trainer with its profiler, checkpoints left out of the timed steps."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain, repeat
from pathlib import Path

import torch

from benchmarks.peers.process import Job, Task, Tick, serve
from segkit.data.augment import Augment
from segkit.data.config import AugmentConfig
from segkit.data.sampling import Batch, epoch_batches
from segkit.data.stores import BatchLoader
from segkit.profiling.profiler import Profiler
from segkit.runs import RunDirectory
from segkit.training.allocator import keep_freed_memory
from segkit.training.config import TrainConfig
from segkit.training.dataset import TrainingData, open_dataset
from segkit.training.distributed import World
from segkit.training.trainer import Trainer
from segkit.workflow.describe import describe, resolve, with_frame

HERE = ExitStack()  # the profiler lives as long as the process


def opened(job: Job, **flags: object) -> tuple[TrainConfig, World, TrainingData]:
    """Settings as resolved, and the dataset."""
    os.environ.setdefault("SEGKIT_CACHE", str(Path(job.scratch) / "cache"))
    world = World(0, 1, 1, torch.device("cpu"))
    given = {"data": job.data, "split": job.split, "batch": job.batch, "workers": job.workers, "width": job.width}
    config = TrainConfig().replace(**{**given, "model": "unet", "device": "cpu", "precision": "fp32", **flags})
    config = resolve(config, world)
    data = open_dataset(config.data, runs=Path(job.scratch), device=world.device, seed=0)
    return with_frame(config, data), world, data


class Steps(Trainer):
    """The trainer, stopped after some steps and gone on with."""

    left, tick = 0, staticmethod(lambda: None)

    def _after_step(self, group: list[Batch], started: float) -> None:
        super()._after_step(group, started)
        self.tick()
        self.left -= 1
        if not self.left:
            raise StopAsking

    def go(self, count: int, tick: Tick) -> None:
        """So many steps."""
        self.left, self.tick = count, staticmethod(tick)
        try:
            while True:
                self._epoch()
                self.state.batch, self.state.epoch = 0, self.state.epoch + 1
        except StopAsking:
            return


class StopAsking(Exception):  # noqa: N818 - it is no error
    """The steps that were asked for are done."""


def trainer(job: Job, **flags: object) -> Task:
    """A trainer with the settings of `segkit train`, but for those given."""
    config, world, data = opened(job, epochs=1000, checkpoint_seconds=1e9, **flags)
    run = RunDirectory(Path(job.scratch) / "run")
    run.path.mkdir(exist_ok=True)
    profiler = HERE.enter_context(Profiler(run.profile, device=world.device, quiet=True))
    return Steps(config, world, data, run, describe(config, data, ""), profiler).go


def train(job: Job) -> Task:
    """With every default: the packed loader, augmentation, averaged weights, clipping."""
    return trainer(job)


def train_on_files(job: Job) -> Task:
    """The same, decoding at each access."""
    return trainer(job, loader="files")


def synthetic(job: Job) -> Task:
    """From memory, without augmentation, as the plain loop on one batch; averaging and clipping stay on."""
    return trainer(job, loader="resident", augment=False, workers=0)


def load(job: Job, loader: str = "packed") -> Task:
    """From storage to uint8 batches."""
    config, _, data = opened(job, loader=loader, workers=job.workers)
    rows = [batch.rows for batch in epoch_batches(data.rows("train"), job.batch, seed=0, epoch=0)]

    def run(count: int, tick: Tick) -> None:
        batches = BatchLoader(data.store, workers=config.data.workers, prefetch=config.data.prefetch, pin=False)
        records: Iterator[torch.Tensor] = chain.from_iterable(batches.iterate(r) for r in repeat(rows))
        for _, record in zip(range(count), records, strict=False):
            data.store.shape.split(record)
            tick()

    return run


def augment(job: Job, **settings: float) -> Task:
    """Flip and affine change of every slice, from uint8 to what the net takes."""
    plain = {"warp": 1.0, "elastic": 0.0, "gamma": 0.0, "brightness": 0.0, "noise": 0.0}
    change = Augment(AugmentConfig(**{**plain, **settings}))
    images = torch.randint(0, 256, (job.batch, job.size, job.size, 3), dtype=torch.uint8)
    masks = (torch.rand(job.batch, job.size, job.size) < 0.02).to(torch.uint8)

    def run(count: int, tick: Tick) -> None:
        for seed in range(count):
            change(images, masks, seed)
            tick()

    return run


def augment_all(job: Job) -> Task:
    """Everything that segkit does by default, each slice warped."""
    return augment(job, **{key: vars(AugmentConfig())[key] for key in ("elastic", "gamma", "brightness", "noise")})


if __name__ == "__main__":
    keep_freed_memory()  # as `segkit train` does
    serve(
        {
            "train": train,
            "train-files": train_on_files,
            "synthetic": synthetic,
            "load": load,
            "load-files": lambda job: load(job, "files"),
            "augment": augment,
            "augment-all": augment_all,
        }
    )
    HERE.close()
