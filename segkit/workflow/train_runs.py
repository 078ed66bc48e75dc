"""The whole job: train each net in turn, evaluate it on its test split, export it, and sum up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from segkit.caches import keep_compiled_in, keep_fonts_in
from segkit.data.stage import staged
from segkit.errors import FileError
from segkit.files import read_json, write_json, write_text
from segkit.metrics import Figure
from segkit.models.registry import CORE
from segkit.profiling.analysis import JOB, summarise
from segkit.profiling.profiler import Profiler
from segkit.resources import cache_folder
from segkit.runs import RunDirectory, create_run, latest_run, new_run_path, surroundings
from segkit.training.allocator import keep_freed_memory
from segkit.training.config import TrainConfig
from segkit.training.dataset import TrainingData, open_dataset
from segkit.training.distributed import World
from segkit.training.trainer import Trainer
from segkit.workflow.choose_workers import with_workers
from segkit.workflow.describe import describe, job_description, make_deterministic, resolve, with_frame
from segkit.workflow.evaluate_run import evaluate_subject, open_subject
from segkit.workflow.export_run import export_run

EVALUATION_BATCH = 8
SHOWN = ("pooled_miou", "pooled_dice", "patient_dice_mean", "patient_dice_median")


def train_runs(
    config: TrainConfig,
    world: World,
    *,
    run: Path | None,
    resume: bool,
    flags: dict[str, Any],
    stage: Path | None = None,
) -> list[RunDirectory]:
    """Train the nets that `config.model.model` stands for.

    Args:
        config: settings as given; of a resumed run, its own settings count, under `flags`.
        run: the run directory; with several nets, the folder of their run directories. None: under `runs/`.
        resume: go on with what is unfinished there, or has fewer epochs than the flags ask for; where there is
            nothing, begin.
        flags: the settings that were given on the command line.
        stage: folder on the node's own disk to copy the dataset to and to read it from.

    Raises:
        Interrupted: asked to stop, and saved. SegkitError: as the parts say.
    """
    keep_freed_memory()
    if resume and run is not None:
        config = _settings_there(config, run, flags)
    names = CORE if config.model.model == "all" else (config.model.model,)
    runs = []
    for name in names:
        folder = _run_folder(name, run, several=len(names) > 1, resume=resume, world=world)
        settings = {**flags, "model": name}
        done = _train_one(config.replace(model=name), world, folder, resume=resume, flags=settings, stage=stage)
        runs.append(done)
    if world.is_main and len(runs) > 1:
        print(comparison(runs))
    return runs


def _settings_there(config: TrainConfig, run: Path, flags: dict[str, Any]) -> TrainConfig:
    """The settings of what is to be gone on with: of the run in `run`, or of one of the nets below it.

    So `--resume --run DIR` is enough, also for the nets of a series that had not begun.
    """
    if (run / "config.toml").exists():
        return TrainConfig.load(run / "config.toml", flags)
    begun = [run / name / "config.toml" for name in CORE if (run / name / "config.toml").exists()]
    return TrainConfig.load(begun[0], {"model": config.model.model, **flags}) if begun else config


def _run_folder(name: str, run: Path | None, *, several: bool, resume: bool, world: World) -> Path:
    if run is not None:
        return run / name if several else run
    chosen = ""
    if world.is_main:
        old = latest_run(name) if resume else None
        chosen = str(old.path if old else new_run_path(name))
    return Path(world.broadcast_text(chosen))


def _train_one(
    config: TrainConfig, world: World, folder: Path, *, resume: bool, flags: dict[str, Any], stage: Path | None
) -> RunDirectory:
    run = RunDirectory(folder)
    finished = resume and run.finished
    longer = finished and _is_longer(run, flags)
    if finished and not longer:
        if world.is_main:
            print(f"{folder}: finished already")
        return run
    resuming = longer or (resume and run.resumable)
    if resuming:
        config = TrainConfig.load(run.config, flags)
    config = resolve(config, world)
    keep_compiled_in(cache_folder(folder.parent))
    data = _open_data(config, world, folder, run if resuming else None, stage)
    config = with_workers(with_frame(config, data), world, data, folder.parent)
    if world.is_main and not resuming:
        _begin(run, folder, config, data, again=resume)
    world.barrier()
    run_id = world.broadcast_text(str(run.record()["run_id"]) if world.is_main else "")
    make_deterministic(config)
    with _profiler(config, world, run, resume=resuming) as profiler:
        if world.is_main:
            write_json(run.profile / JOB, job_description(config, data))
        trainer = Trainer(config, world, data, run, describe(config, data, run_id), profiler)
        if resuming:
            trainer.restore()
        if world.is_main:
            if longer:
                _reopen(run)
            if resuming:
                write_text(run.config, config.to_toml())
            print(_opening(trainer, resuming), flush=True)
        trainer.fit()
    if world.is_main:
        _report_profile(run)
        run.update_record(state="trained", epochs=trainer.state.epoch, best_epoch=trainer.state.best_epoch)
        if config.system.export:
            _finish(run, config, has_test=bool(len(data.rows("test"))))
        run.update_record(state="finished")
    world.barrier()
    return run


def _is_longer(run: RunDirectory, flags: dict[str, Any]) -> bool:
    """Whether the flags ask for more epochs of a finished run than it has, and there is a state to go on from."""
    had, wanted = TrainConfig.load(run.config).optim, TrainConfig.load(run.config, flags).optim
    return run.last.exists() and not wanted.steps and wanted.epochs > had.epochs


def _reopen(run: RunDirectory) -> None:
    """A finished run is in training again: what was chosen for the net as it was goes."""
    run.update_record(state="started")
    if run.volume_rule.exists():
        run.volume_rule.unlink()
        print(f"  rule  for volumes: was chosen for the shorter training, dropped; anew with: segkit tune {run.path}")


def _profiler(config: TrainConfig, world: World, run: RunDirectory, *, resume: bool) -> Profiler:
    return Profiler(
        run.profile,
        device=world.device,
        interval=config.system.sample_seconds,
        workers=config.data.workers,
        loader=config.data.loader,
        quiet=True,
        resume=True,  # a new run's folder is empty
    )


def _report_profile(run: RunDirectory) -> None:
    """The verdict on the training, and the page that shows it."""
    keep_fonts_in(cache_folder(run.path.parent))
    from segkit.profiling.report.html_page import to_html  # matplotlib is slow to import

    summary = summarise(run.path)
    if summary.verdict is not None:
        print(f"  time  {summary.verdict.title}. {summary.verdict.sentence}")
    write_text(run.report, to_html([summary]))
    print(f"        {run.report}")


def _open_data(
    config: TrainConfig, world: World, folder: Path, resumed: RunDirectory | None, stage: Path | None
) -> TrainingData:
    settings = config.data if resumed is None else replace(config.data, split=str(resumed.split))
    if stage is not None:
        settings = replace(settings, data=str(staged(Path(settings.data), stage)))
    return open_dataset(settings, runs=folder.parent, device=world.device, seed=config.system.seed, say=world.is_main)


def _begin(run: RunDirectory, folder: Path, config: TrainConfig, data: TrainingData, *, again: bool) -> None:
    if not (again and (folder / "run.json").exists()):  # else a run that was killed before its first checkpoint
        create_run(folder)
    write_text(run.config, config.to_toml())
    data.split.save(run.split)
    run.keep_epochs_before(0)
    run.update_record(**surroundings(), data=config.data.data, device=config.system.device)


def _opening(trainer: Trainer, resuming: bool) -> str:
    config, data, state = trainer.config, trainer.data, trainer.state
    parameters = sum(p.numel() for p in trainer.learner.net.parameters())
    counts = ", ".join(f"{len(data.rows(part))} {part}" for part in ("train", "val", "test"))
    where = f"{trainer.world.size} x {config.system.device}" if trainer.world.size > 1 else config.system.device
    size = f"{data.frame.size[0]} x {data.frame.size[1]}"
    again = f"resumed at epoch {state.epoch + 1}, step {state.step}" if resuming else "from scratch"
    return (
        f"\n{config.model.model} width {config.model.width} ({parameters / 1e6:.2f} M parameters), {again}\n"
        f"  data  {data.case_set.root} ({data.case_set.layout}): slices {counts}; {size}\n"
        f"  on    {where}, {config.system.precision}, loader {config.data.loader}, batch {config.data.batch}\n"
        f"  run   {trainer.run.path}"
    )


def _finish(run: RunDirectory, config: TrainConfig, *, has_test: bool) -> None:
    """Evaluate the test split, then export (so that the model carries its figures)."""
    if not run.best.exists():
        raise FileError(run.best, "was never written", "train for at least one epoch")
    if has_test:
        subject = open_subject(run.path, config.system.device, EVALUATION_BATCH)
        summary, context, path = evaluate_subject(subject)
        print(f"  test  {context['patients']} patients; every figure under its own name: {path.with_suffix('.md')}")
        for key in SHOWN:
            print(f"        {_figure_text(summary.figure(key))}")
    else:
        print("  test  no patients in the split: nothing to evaluate")
    path, parity = export_run(run)
    print(f"  onnx  {path} ({path.stat().st_size / 1e6:.1f} MB); {parity}")


def _figure_text(figure: Figure) -> str:
    if figure.value is None:
        return f"{figure.label}: undefined"
    interval = f" [{figure.low:.4f}, {figure.high:.4f}]" if figure.low is not None else ""
    return f"{figure.label}: {figure.value:.4f}{interval}"


def comparison(runs: list[RunDirectory]) -> str:
    """A table of the test figures of several finished runs."""
    titles = ("pooled mIoU", "pooled Dice", "patient Dice", "their median", "images/s")
    rows = [f"\n{'net':8}" + "".join(f" {title:>13}" for title in titles) + "  run"]
    for run in runs:
        figures = read_json(run.evaluation)["figures"] if run.evaluation.exists() else {}
        values = [figures.get(key, {}).get("value") for key in SHOWN]
        shown = [f"{value:.4f}" if value is not None else "-" for value in values]
        shown.append(f"{epochs[-1]['images_per_s']:.1f}" if (epochs := run.epochs()) else "-")
        name = TrainConfig.load(run.config).model.model
        rows.append(f"{name:8}" + "".join(f" {text:>13}" for text in shown) + f"  {run.path}")
    return "\n".join(rows)
