"""`--workers auto`: try worker counts on the job itself before it begins."""

from __future__ import annotations

import sys
from pathlib import Path
from time import perf_counter

import torch
import torch.distributed as dist

from segkit.data.config import AUTO_WORKERS
from segkit.data.shared_memory import Room, free_bytes
from segkit.profiling.stalls.measure import Feed, Measured, choose, run
from segkit.profiling.stalls.prediction import candidates
from segkit.profiling.summary import Interval, WorkerPoint
from segkit.training.config import TrainConfig
from segkit.training.dataset import TrainingData
from segkit.training.distributed import World
from segkit.workflow.training_workload import TrainingWorkload

SECONDS = 3.0  # of a run; each count gets two, in opposite order
ROUNDS = 2


def with_workers(config: TrainConfig, world: World, data: TrainingData, runs: Path) -> TrainConfig:
    """The configuration with a number of workers, found by trying where it is `auto`.

    Every rank tries the same count at the same time, as it will be in training; the sum of their rates decides.
    """
    room = shared_memory(config, world, data)
    if config.data.workers != AUTO_WORKERS:
        return with_room(config, world, room)
    if config.data.loader == "resident":
        return config.replace(workers=0)
    began = perf_counter()
    curve = choose(try_counts(config, world, data, runs, room))
    chosen = next(point for point in curve if point.chosen)
    if world.is_main:
        print(f"workers: {describe_curve(curve)} ({perf_counter() - began:.0f} s)", flush=True)
    return config.replace(workers=chosen.workers)


def shared_memory(config: TrainConfig, world: World, data: TrainingData) -> Room | None:
    """What /dev/shm holds of this job's batches; None where that is no limit."""
    free = free_bytes()
    if free is None:
        return None
    return Room(config.data.batch * data.store.shape.size, config.data.prefetch, free, world.local_size)


def with_room(config: TrainConfig, world: World, room: Room | None) -> TrainConfig:
    """The configuration with no more workers than /dev/shm has room for on any node; said in one line."""
    wanted = config.data.workers
    most = wanted if room is None else room.most(wanted)
    if world.control is not None:  # the ranks of all nodes take the same number
        tightest = torch.tensor([most])
        dist.all_reduce(tightest, dist.ReduceOp.MIN, group=world.control)
        most = int(tightest)
    if most == wanted:
        return config
    if world.is_main and room is not None:
        print(f"segkit: {room.told(wanted, most)}", file=sys.stderr, flush=True)
    return config.replace(workers=most)


def try_counts(
    config: TrainConfig, world: World, data: TrainingData, runs: Path, room: Room | None
) -> list[WorkerPoint]:
    """Images a second of all ranks at each worker count, from short runs in turns."""
    workload = TrainingWorkload(config, world, data, runs=runs)
    most = workload.cpus if room is None else room.most(workload.cpus)
    feeds = [Feed(config.data.loader, count, config.data.prefetch, config.data.pin) for count in candidates(most, 0)]
    tried = [Measured(feed) for feed in feeds]
    for turn in range(ROUNDS):
        for measured in tried if turn % 2 == 0 else tried[::-1]:
            world.barrier()
            run(workload, measured, SECONDS)
    rates = world.sum(torch.tensor([m.images_per_s.value for m in tried], dtype=torch.float64)).tolist()
    # All ranks compute the choice from the same sums, so it needs no message.
    return [WorkerPoint(m.feed.workers, Interval(r), None, m.feed.loader) for m, r in zip(tried, rates, strict=True)]


def describe_curve(curve: list[WorkerPoint]) -> str:
    """The measured counts in a line, e.g. "0: 310, 1: 402, 2: 398 images/s; taking 1"."""
    shown = ", ".join(f"{p.workers}: {p.images_per_s.value:.4g}" for p in curve if p.images_per_s is not None)
    chosen = next(point.workers for point in curve if point.chosen)
    return f"{shown} images/s; taking {chosen}"
