"""A training job as the stall analysis runs it: the same net, step and loaders as `segkit train`, without the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from segkit.data.config import LOADERS
from segkit.data.sampling import epoch_batches
from segkit.data.stores import BatchLoader, Store, open_store
from segkit.profiling.records import StepRecord
from segkit.profiling.stalls.measure import Feed
from segkit.profiling.step_clock import StepClock
from segkit.resources import available_memory, cache_folder, granted_cpus
from segkit.training.config import TrainConfig
from segkit.training.dataset import TrainingData
from segkit.training.distributed import World
from segkit.training.learner import Learner
from segkit.workflow.describe import describe

ENDLESS = 10**9  # steps of the learning-rate schedule
LOAD_SECONDS = 0.5  # how long a loader is timed alone


class TrainingWorkload:
    """Trains a net of its own on one rank; several ranks may do so side by side, without exchanging gradients."""

    def __init__(self, config: TrainConfig, world: World, data: TrainingData, *, runs: Path) -> None:
        self.config, self.data, self.runs = config, data, runs
        self.device = world.device
        self.on_cpu = world.device.type == "cpu"
        self.cpus = max(1, granted_cpus() // world.local_size)
        alone = World(0, 1, world.local_size, world.device)
        self.learner = Learner(config, alone, describe(config, data, run_id=""), ENDLESS)
        self.rows = data.rows("train")
        self.foreground = data.survey.has_foreground()[self.rows]
        self._stores: dict[str, Store] = {config.data.loader: data.store}
        self._step = 0

    # --- what the analysis asks for --------------------------------------------------------------

    def steps(self, feed: Feed, before_pass: Callable[[], None]) -> Iterator[StepRecord]:
        """Train without end, a record a step."""
        clock = StepClock(None, self.device)
        return self._synthetic_steps(clock) if feed.synthetic else self._pipeline_steps(feed, clock, before_pass)

    def loaders(self) -> Sequence[str]:
        """All kinds; `resident` only where the set takes at most half of the memory that is free."""
        size = self.data.store.shape.size * len(self.data.survey.pixels)
        return [loader for loader in LOADERS if loader != "resident" or 2 * size <= free_memory(self.device)]

    def files(self, loader: str) -> Sequence[Path]:
        """What the loader reads."""
        return self._store(loader).evictable_files()

    def load_seconds(self, loader: str) -> float:
        """Seconds a batch of one process alone."""
        store, batches = self._store(loader), self._batches()
        store.gather(batches[0])
        seconds, done = 0.0, 0
        while seconds < LOAD_SECONDS:
            began = perf_counter()
            store.gather(batches[done % len(batches)])
            seconds += perf_counter() - began
            done += 1
        return seconds / done

    # --- feeds -----------------------------------------------------------------------------------

    def _synthetic_steps(self, clock: StepClock) -> Iterator[StepRecord]:
        """The same batch again and again; it is on the device."""
        records = self._store(self.config.data.loader).gather(self._batches()[0]).to(self.device)
        images, masks = self.data.store.shape.split(records)
        clock.restart()
        while True:
            yield from self._train(clock, images, masks)

    def _pipeline_steps(self, feed: Feed, clock: StepClock, before_pass: Callable[[], None]) -> Iterator[StepRecord]:
        """Pass after pass over the training slices; what is done between two is nobody's time."""
        pin = feed.pin and not self.on_cpu
        loader = BatchLoader(self._store(feed.loader), workers=feed.workers, prefetch=feed.prefetch, pin=pin)
        for epoch in count():
            before_pass()
            clock.restart()
            batches = loader.iterate(self._batches(epoch))
            while True:
                with clock.waiting():
                    records = next(batches, None)
                if records is None:
                    break
                clock.switch("copy")
                images, masks = self.data.store.shape.split(records.to(self.device, non_blocking=True))
                yield from self._train(clock, images, masks)

    def _train(self, clock: StepClock, images: torch.Tensor, masks: torch.Tensor) -> list[StepRecord]:
        """One step; the records of the steps that have been finished meanwhile."""
        self.learner.step(self._step, [(images, masks, 1.0)], 1, clock)
        self._step += 1
        clock.end_step(0, self._step, len(images))
        return clock.take_finished()

    def _batches(self, epoch: int = 0) -> list[np.ndarray]:
        batches = epoch_batches(
            self.rows,
            self.config.data.batch,
            seed=self.config.system.seed,
            epoch=epoch,
            foreground=self.foreground,
            balance=self.config.data.balance,
        )
        return [batch.rows for batch in batches]

    def _store(self, loader: str) -> Store:
        if loader not in self._stores:
            data = self.data
            self._stores[loader], _ = open_store(
                loader, data.case_set, data.frame, cache_folder(self.runs), self.device
            )
        return self._stores[loader]


def free_memory(device: torch.device) -> int:
    """Bytes of the device's memory that nobody uses; of a CPU's, what the system would give without swapping."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return available_memory()
