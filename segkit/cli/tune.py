"""`segkit tune`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from segkit.cli.progress_bar import show_progress

if TYPE_CHECKING:
    from segkit.workflow.tune import Trial


def tune(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run directories, such as those of the folds.")],
    into: Annotated[
        Optional[list[Path]],  # noqa: UP045 - typer reads it
        typer.Option("--into", help="A run to write the choice into. Default: those that it was made on."),
    ] = None,
    data: Annotated[str, typer.Option("--data", help="Dataset folder. Default: the one of each run.")] = "",
    split: Annotated[str, typer.Option("--split", help="Patients to choose on: val or test of each run.")] = "val",
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    batch: Annotated[int, typer.Option("--batch", min=1, help="Slices at a time.")] = 8,
) -> None:
    """Choose what suits a net in volumes: mirrored slices, smoothing, threshold, least lesion, by Dice of patients.

    Patients that a run is judged on (those of its test part) never choose for that run.
    """
    from segkit.errors import ConfigError
    from segkit.runs import open_run
    from segkit.workflow.tune import PLAIN, fair_for, tune
    from segkit.workflow.volume_rule import keep_rule

    if split not in ("val", "test"):
        raise ConfigError("--split", split, "val, test")
    opened = [open_run(run) for run in runs]
    targets = [open_run(run) for run in into] if into else opened

    trial = tune(opened, data=data, part=split, device=device, batch=batch, progress=show_progress)
    show_progress("")
    fair = [(target, fair_for(target, trial)) for target in targets]  # before any is written
    for target, rest in fair:
        rule = rest.chosen()
        if len(fair) > 1:
            print(f"{target.path}:")
        _show(rest, split)
        print(f"chosen: {rule}")
        chosen_on = {
            "runs": [run.path.resolve().name for run in opened],
            "part": split,
            "patients": len(rest.patients),
            "dice_by_slice": float(rest.of(PLAIN).mean()),
            "dice": float(rest.of(rule).mean()),
        }
        keep_rule(target, rule, chosen_on)
        print(
            f"written: {target.volume_rule}, and the models beside it; `segkit evaluate {target.path}` has the figures"
        )


def _show(trial: Trial, part: str) -> None:
    """What the best rules bring, on a trial's patients."""
    import numpy as np

    from segkit.workflow.tune import PLAIN

    print(f"{len(trial.patients)} patients ({part}); Dice of a patient's volume, mean and median")
    for title, rule in (
        ("now", PLAIN),
        ("best without mirrored slices", trial.best(flip=False)),
        ("best with mirrored slices", trial.best(flip=True)),
    ):
        change, low, high = trial.gain(rule)
        figures = f"{trial.of(rule).mean():.4f} {np.median(trial.of(rule)):.4f}"
        print(f"  {title:29} {figures}  {change:+.4f} [{low:+.4f}, {high:+.4f}]  {rule}")
