"""The whole job: train each net in turn, evaluate it on its test split, export it, and sum up."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from segkit.errors import FileError
from segkit.export.parity import Parity
from segkit.files import write_text
from segkit.metrics import Summary
from segkit.models.registry import CORE
from segkit.runs import RunDirectory, create_run, latest_run, new_run_path, surroundings
from segkit.training.config import TrainConfig
from segkit.training.dataset import TrainingData, open_dataset
from segkit.training.distributed import World
from segkit.training.evaluation_report import to_text
from segkit.training.trainer import Trainer
from segkit.workflow.describe import describe, make_deterministic, resolve, with_frame
from segkit.workflow.evaluate_run import evaluate_subject, open_subject
from segkit.workflow.export_run import export_run

EVALUATION_BATCH = 8


@dataclass(frozen=True)
class Outcome:
    """What became of one net; figures are None on the ranks that do not evaluate."""

    run: RunDirectory
    summary: Summary | None
    parity: Parity | None


def train_runs(
    config: TrainConfig, world: World, *, run: Path | None, resume: bool, flags: dict[str, Any]
) -> list[Outcome]:
    """Train the nets that `config.model.model` stands for.

    Args:
        config: settings as given; of a resumed run, its own settings count, under `flags`.
        run: the run directory; with several nets, the folder of their run directories. None: under `runs/`.
        resume: go on with what is unfinished there; where there is nothing, begin.
        flags: the settings that were given on the command line.

    Raises:
        Interrupted: asked to stop, and saved. SegkitError: as the parts say.
    """
    names = CORE if config.model.model == "all" else (config.model.model,)
    outcomes = []
    for name in names:
        folder = _run_folder(name, run, several=len(names) > 1, resume=resume, world=world)
        outcome = _train_one(
            config.replace(model=name), world, folder, resume=resume, flags={**flags, "model": name}
        )
        outcomes.append(outcome)
    if world.is_main and len(outcomes) > 1:
        print(comparison(outcomes))
    return outcomes


def _run_folder(name: str, run: Path | None, *, several: bool, resume: bool, world: World) -> Path:
    if run is not None:
        return run / name if several else run
    chosen = ""
    if world.is_main:
        old = latest_run(name) if resume else None
        chosen = str(old.path if old else new_run_path(name))
    return Path(world.broadcast_text(chosen))


def _train_one(
    config: TrainConfig, world: World, folder: Path, *, resume: bool, flags: dict[str, Any]
) -> Outcome:
    run = RunDirectory(folder)
    if resume and run.finished:
        if world.is_main:
            print(f"{folder}: finished already")
        return Outcome(run, None, None)
    resuming = resume and run.resumable
    if resuming:
        config = TrainConfig.load(run.config, flags)
    config = resolve(config, world)
    data = _open_data(config, world, folder, run if resuming else None)
    config = with_frame(config, data)
    if world.is_main and not resuming:
        _begin(run, folder, config, data, again=resume)
    world.barrier()
    run_id = world.broadcast_text(str(run.record()["run_id"]) if world.is_main else "")
    make_deterministic(config)
    trainer = Trainer(config, world, data, run, describe(config, data, run_id))
    if resuming:
        trainer.restore()
    if world.is_main:
        print(_opening(trainer, resuming), flush=True)
    trainer.fit()
    if world.is_main:
        run.update_record(state="trained", epochs=trainer.state.epoch, best_epoch=trainer.state.best_epoch)
    outcome = _finish(run, config) if world.is_main and config.system.export else Outcome(run, None, None)
    if world.is_main:
        run.update_record(state="finished")
    world.barrier()
    return outcome


def _open_data(config: TrainConfig, world: World, folder: Path, resumed: RunDirectory | None) -> TrainingData:
    settings = config.data if resumed is None else replace(config.data, split=str(resumed.split))
    return open_dataset(
        settings, runs=folder.parent, device=world.device, seed=config.system.seed, say=world.is_main
    )


def _begin(run: RunDirectory, folder: Path, config: TrainConfig, data: TrainingData, *, again: bool) -> None:
    if not (
        again and (folder / "run.json").exists()
    ):  # else a run that was killed before its first checkpoint
        create_run(folder)
    write_text(run.config, config.to_toml())
    data.split.save(run.split)
    run.keep_epochs_before(0)
    run.update_record(**surroundings(), data=str(data.case_set.root), device=config.system.device)


def _opening(trainer: Trainer, resuming: bool) -> str:
    config, data, state = trainer.config, trainer.data, trainer.state
    parameters = sum(p.numel() for p in trainer.learner.net.parameters())
    counts = ", ".join(f"{len(data.rows(part))} {part}" for part in ("train", "val", "test"))
    where = (
        f"{trainer.world.size} x {config.system.device}" if trainer.world.size > 1 else config.system.device
    )
    again = f"resumed at epoch {state.epoch + 1}, step {state.step}" if resuming else "from scratch"
    return (
        f"\n{config.model.model} width {config.model.width} ({parameters / 1e6:.2f} M parameters), {again}\n"
        f"  data  {data.case_set.root} ({data.case_set.layout}): slices {counts}; {data.frame.size[0]} x {data.frame.size[1]}\n"
        f"  on    {where}, {config.system.precision}, loader {config.data.loader}, batch {config.data.batch}\n"
        f"  run   {trainer.run.path}"
    )


def _finish(run: RunDirectory, config: TrainConfig) -> Outcome:
    """Evaluate the test split, then export (so that the model carries its figures)."""
    if not run.best.exists():
        raise FileError(run.best, "was never written", "train for at least one epoch")
    summary = None
    try:
        subject = open_subject(run.path, config.system.device, EVALUATION_BATCH)
        summary, context, _ = evaluate_subject(subject)
        print(to_text(summary, context))
    except FileError as error:
        if not str(error).endswith("use --split val or all"):
            raise
        print(f"  no test patients in the split: nothing to evaluate ({error})")
    path, parity = export_run(run)
    print(f"  exported {path} ({path.stat().st_size / 1e6:.1f} MB): {parity}")
    return Outcome(run, summary, parity)


def comparison(outcomes: list[Outcome]) -> str:
    """A table of the nets that were trained in one go."""
    rows = [f"\n{'net':8} {'test mIoU':>9} {'Dice':>7} {'patient Dice':>12} {'images/s':>9}  run"]
    for outcome in outcomes:
        if outcome.summary is None:
            rows.append(
                f"{outcome.run.record().get('model', outcome.run.path.name):8} {'':>40}  {outcome.run.path}"
            )
            continue
        values = outcome.summary.values()
        epochs = outcome.run.epochs()
        rate = epochs[-1]["images_per_s"] if epochs else 0.0
        figures = [values[key] for key in ("pooled_miou", "pooled_dice", "patient_dice_mean")]
        shown = [f"{value:.4f}" if value is not None else "-" for value in figures]
        name = outcome.run.path.name.split("-")[0]
        rows.append(f"{name:8} {shown[0]:>9} {shown[1]:>7} {shown[2]:>12} {rate:9.1f}  {outcome.run.path}")
    return "\n".join(rows)
