"""The training loop of one net: epochs, validation, checkpoints, and stopping well."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from segkit.data.sampling import Batch, epoch_batches
from segkit.data.stores import BatchLoader
from segkit.errors import Interrupted, SegkitError
from segkit.profiling.profiler import Profiler
from segkit.runs import RunDirectory
from segkit.training.checkpoint import NetDescription, load_checkpoint, save_checkpoint
from segkit.training.config import TrainConfig
from segkit.training.dataset import TrainingData
from segkit.training.distributed import Flags, World
from segkit.training.learner import Learner
from segkit.training.loss_watch import LossWatch, StepLoss
from segkit.training.optim import learning_rate
from segkit.training.progress import Progress, duration
from segkit.training.scalars import NoScalars, TensorBoard
from segkit.training.signals import StopSignals
from segkit.training.validate import Validation, validate

# What ranks tell each other between steps; the highest flag wins.
SAVE = 1  # a checkpoint is due
STOP = 2  # a signal asked for a stop
BAD_LOSS = 3  # 3 + the rank whose loss is no number


@dataclass
class State:
    """How far a run has come. Everything random is a function of these numbers and the seed."""

    epoch: int = 0
    batch: int = 0  # batches of the epoch that are done
    step: int = 0  # optimiser steps
    images: int = 0  # of this epoch: on this rank, in a checkpoint on all
    loss_sum: float = 0.0  # over these images
    seconds: float = 0.0  # of this epoch's training, over all sessions
    best_dice: float = -1.0
    best_epoch: int = -1


class Trainer:
    """Trains one net from `state` to the end of the run, or until it is asked to stop."""

    def __init__(
        self,
        config: TrainConfig,
        world: World,
        data: TrainingData,
        run: RunDirectory,
        description: NetDescription,
        profiler: Profiler,
    ) -> None:
        self.profiler, self.clock = profiler, profiler.clock
        self.config, self.world, self.data, self.run, self.description = config, world, data, run, description
        self.state = State()
        self.rows = data.rows("train")
        self.foreground = data.survey.has_foreground()[self.rows]
        self.steps_an_epoch = -(-len(self._batches(0)) // config.optim.accumulate)
        self.total_steps = config.optim.steps or config.optim.epochs * self.steps_an_epoch
        self.epochs = min(config.optim.epochs, -(-self.total_steps // self.steps_an_epoch))
        self.learner = Learner(config, world, description, self.total_steps)
        pin = config.data.pin and world.device.type == "cuda"
        self.loader = BatchLoader(data.store, workers=config.data.workers, prefetch=config.data.prefetch, pin=pin)
        profiler.attach(model=self.learner.wrapped)
        self.watch = LossWatch(world.device)
        self.flags = Flags(world)
        self.signals = StopSignals()
        images = round(len(self.rows) * self.total_steps / self.steps_an_epoch)
        self.progress = Progress(self.epochs, images, world.is_main)
        wanted = config.system.tensorboard and world.is_main
        self.scalars = TensorBoard(run.tensorboard) if wanted else NoScalars()
        self.last_loss: StepLoss | None = None
        self.bad_loss: StepLoss | None = None
        self.saved = time.monotonic()

    def fit(self) -> None:
        """Train to the end.

        Raises:
            Interrupted: a signal asked for a stop; the state is saved.
            SegkitError: the loss became NaN or infinite.
        """
        done = sum(batch.total for batch in self._batches(self.state.epoch)[: self.state.batch])
        self.progress.begin(self.state.epoch * len(self.rows) + done)
        self.clock.restart()
        with self.signals:
            while self.state.epoch < self.epochs:
                self._epoch()
                self._end_epoch()

    # --- an epoch --------------------------------------------------------------------------------

    def _batches(self, epoch: int) -> list[Batch]:
        return epoch_batches(
            self.rows,
            self.config.data.batch,
            seed=self.config.system.seed,
            epoch=epoch,
            rank=self.world.rank,
            world=self.world.size,
            foreground=self.foreground,
            balance=self.config.data.balance,
        )

    def _epoch(self) -> None:
        self.clock.recent.begin_epoch()
        accumulate = self.config.optim.accumulate
        end = self.state.batch + (self.total_steps - self.state.step) * accumulate
        batches = self._batches(self.state.epoch)[self.state.batch : end]
        records = self._waited(self.loader.iterate([batch.rows for batch in batches]))
        for start in range(0, len(batches), accumulate):
            started = time.perf_counter()
            group = batches[start : start + accumulate]
            results = self.learner.step(self.state.step, self._on_device(group, records), len(group), self.clock)
            for batch, (loss, dice) in zip(group, results, strict=True):
                self.watch.push(self.state.step, batch.rows, loss, dice)
            self._after_step(group, started)

    def _waited(self, batches: Iterator[torch.Tensor]) -> Iterator[torch.Tensor]:
        while True:
            with self.clock.waiting():
                records = next(batches, None)
            if records is None:
                return
            yield records

    def _on_device(
        self, group: list[Batch], records: Iterator[torch.Tensor]
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor, float]]:
        total = sum(batch.total for batch in group)
        for batch in group:
            host = next(records)
            self.clock.switch("copy")
            images, masks = self.data.store.shape.split(host.to(self.world.device, non_blocking=True))
            yield images, masks, len(batch.rows) * self.world.size / total

    # --- between steps ---------------------------------------------------------------------------

    def _after_step(self, group: list[Batch], started: float) -> None:
        self.state.batch += len(group)
        self.state.step += 1
        self.state.seconds += time.perf_counter() - started
        self.clock.end_step(self.state.epoch, self.state.step, sum(len(batch.rows) for batch in group))
        self._take_losses(everything=False)
        if self.progress.step(sum(batch.total for batch in group)):
            self._show_progress()
        flag = self.flags.agree(self._my_flag())
        if flag >= BAD_LOSS:
            self._stop_for_bad_loss(flag - BAD_LOSS)
        if flag:
            with self.clock.phase("checkpoint", self.state.epoch):
                self._save_last()
        if flag == STOP:
            self._stop_for_signal()

    def _show_progress(self) -> None:
        loss = self.last_loss
        self.progress.show(
            epoch=self.state.epoch,
            loss=loss.loss if loss else None,
            dice=loss.dice if loss else None,
            profile=self.profiler.live(),
        )

    def _my_flag(self) -> int:
        if self.bad_loss is not None:
            return BAD_LOSS + self.world.rank
        if self.signals.name:
            return STOP
        due = time.monotonic() - self.saved >= self.config.system.checkpoint_seconds
        return SAVE if due and self.world.is_main else 0

    def _take_losses(self, *, everything: bool) -> None:
        """Add up the losses that have arrived; note the first that is no number."""
        for item in self.watch.ready(everything=everything):
            if not item.is_finite:
                self.bad_loss = self.bad_loss or item
            self.last_loss = item
            self.state.images += len(item.rows)
            self.state.loss_sum += item.loss * len(item.rows)

    def _stop_for_signal(self) -> None:
        self.world.barrier()
        where = f"epoch {self.state.epoch + 1}, step {self.state.step}"
        asked = f" by {self.signals.name}" if self.signals.name else ""
        same = f"segkit train --resume --run {self.run.path}"
        raise Interrupted(f"stopped{asked} at {where}; go on with the same command and --resume, or with: {same}")

    def _stop_for_bad_loss(self, rank: int) -> None:
        text = ""
        if self.bad_loss is not None:
            files = ", ".join(self.data.name_rows(self.bad_loss.rows))
            text = f"the loss is {self.bad_loss.loss} at step {self.bad_loss.step + 1} (rank {rank}), batch: {files}"
        text = self.world.broadcast_text(text, rank)
        good = self.run.last if self.run.last.exists() else "none yet"
        raise SegkitError(f"{text}; last good checkpoint: {good}; try a lower --lr, or --precision fp32")

    # --- the end of an epoch ---------------------------------------------------------------------

    def _end_epoch(self) -> None:
        self._take_losses(everything=True)
        flag = self.flags.agree_now(self._my_flag())
        if flag >= BAD_LOSS:
            self._stop_for_bad_loss(flag - BAD_LOSS)
        with self.clock.phase("validate", self.state.epoch):
            validation = validate(self.learner, self.data, self.loader)
        line = self._epoch_line(validation)
        improved = validation.dice > self.state.best_dice
        if improved:
            self.state.best_dice, self.state.best_epoch = validation.dice, self.state.epoch
        self.state = replace(self.state, epoch=self.state.epoch + 1, batch=0, images=0, loss_sum=0.0, seconds=0.0)
        with self.clock.phase("checkpoint", line["epoch"]):
            if self.world.is_main:
                self.run.append_epoch(line)
                self.scalars.add(line)
                if improved:
                    self._save_best(line)
            self._save_last()
        self.progress.line(_epoch_text(line, self.epochs, improved))
        if self.flags.agree_now(self._my_flag()) == STOP:
            self._stop_for_signal()

    def _sums(self) -> tuple[float, int]:
        """Sum of losses and number of images of this epoch so far, over all ranks."""
        mine = torch.tensor([self.state.loss_sum, float(self.state.images)], dtype=torch.float64)
        loss_sum, images = self.world.sum(mine).tolist()
        return loss_sum, int(images)

    def _epoch_line(self, validation: Validation) -> dict[str, Any]:
        loss_sum, images = self._sums()
        return {
            "epoch": self.state.epoch,
            "step": self.state.step,
            "lr": learning_rate(self.config.optim, self.state.step - 1, self.total_steps),
            "train_loss": loss_sum / max(images, 1),
            "val_loss": validation.loss,
            "val_dice": validation.dice,
            "val_patient_dice": validation.patient_dice,
            "images": images,
            "images_per_s": images / max(self.state.seconds, 1e-9),
            "seconds": self.state.seconds,
            "stall": self.clock.recent.epoch_starved,
        }

    # --- checkpoints -----------------------------------------------------------------------------

    def _save_last(self) -> None:
        """Save the state; every rank calls it at the same step.

        Ruined weights are not saved: then the last good ones stay, and the run will stop.
        """
        self._take_losses(everything=True)
        self.clock.flush()
        self.saved = time.monotonic()
        loss_sum, images = self._sums()
        if self.world.is_main and self.bad_loss is None and self.learner.is_finite():
            state = replace(self.state, loss_sum=loss_sum, images=images)
            values = {"state": asdict(state), "world": self.world.size, **self.learner.state_dict()}
            save_checkpoint(self.run.last, {"description": self.description.to_plain(), **values})

    def _save_best(self, line: dict[str, Any]) -> None:
        metrics = {key: line[key] for key in ("val_dice", "val_patient_dice", "epoch")}
        metadata = replace(self.description.metadata, metrics=metrics)
        description = replace(self.description, metadata=metadata).to_plain()
        save_checkpoint(self.run.best, {"description": description, "net": self.learner.evaluated.state_dict()})

    def restore(self) -> None:
        """Go back to the state of `last.pt`.

        Raises:
            SegkitError: it was saved by another number of ranks, or for other data or another net.
        """
        values = load_checkpoint(self.run.last)
        if not NetDescription.from_plain(values["description"]).feeds_like(self.description):
            raise SegkitError(
                f"{self.run.last}: belongs to another net, or the dataset has changed since; start a new run (--run)"
            )
        if values["world"] != self.world.size:
            raise SegkitError(
                f"{self.run.last}: was saved by {values['world']} ranks, this is {self.world.size}; "
                "the order of the data depends on it, so resume with the same number"
            )
        self.learner.load_state_dict(values)
        self.state = State(**values["state"])
        if self.world.is_main:
            self.run.keep_epochs_before(self.state.epoch)
        else:
            self.state.loss_sum, self.state.images = 0.0, 0  # the saved sums are of all ranks


def _epoch_text(line: dict[str, Any], epochs: int, improved: bool) -> str:
    return (
        f"epoch {line['epoch'] + 1}/{epochs}  loss {line['train_loss']:.4f}  val loss {line['val_loss']:.4f}  "
        f"val dice {line['val_dice']:.4f}{' *' if improved else '  '}  {line['images_per_s']:.1f} images/s  "
        f"{duration(line['seconds'])}"
    )
