"""`segkit train`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from segkit.cli.options import with_flags
from segkit.errors import ConfigError
from segkit.training.config import SECTIONS, TrainConfig


@with_flags(*SECTIONS.values())
def train(
    run: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads it
        typer.Option(
            # torchrun takes --run for an abbreviation of its own --run-path, hence the second name.
            "--run",
            "--run-dir",
            help="Run directory (with several nets: their parent). Default: runs/<model>-<date-time>.",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the run in --run, or the newest unfinished one; else begin."),
    ] = False,
    config: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--config", help="TOML file of settings; flags win over it."),
    ] = None,
    stage: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--stage", help="Copy the dataset into this folder on the node's own disk, and read it there."),
    ] = None,
    nodes: Annotated[int, typer.Option("--nodes", help="Nodes that run this same command.", min=1)] = 1,
    rendezvous: Annotated[
        str, typer.Option("--rendezvous", help="HOST:PORT on one of several nodes, where they meet.")
    ] = "",
    *,
    flags: dict[str, Any],
) -> None:
    """Train FCN, U-Net and SegNet; evaluate each on its test split and export its best checkpoint.

    With no flags at all: the three nets in turn, on the dataset in SEGKIT_DATA or in the working directory.
    Several GPUs: --gpus N, torchrun -m segkit train, or one SLURM task a GPU. Several nodes: the same command on each
    of them, with --nodes and --rendezvous; `segkit slurm` writes the job.
    """
    settings = TrainConfig.load(config, flags)
    if (nodes > 1) != bool(rendezvous):
        raise ConfigError("--rendezvous", rendezvous, "HOST:PORT with --nodes above 1, and only then")
    from segkit.training.signals import warning_remembered

    with warning_remembered():
        _train(settings, run, resume, stage, nodes, rendezvous, flags)


def _train(
    settings: TrainConfig,
    run: Path | None,
    resume: bool,
    stage: Path | None,
    nodes: int,
    rendezvous: str,
    flags: dict[str, Any],
) -> None:
    from segkit.training.distributed import (
        join_world,
        launched_by_others,
        leave_world,
        one_line_if_a_rank_is_lost,
    )
    from segkit.training.launch import launch

    # One task of SLURM on each of several nodes looks like ranks of others, but is to start them.
    if "LOCAL_RANK" not in os.environ and (rendezvous or (settings.system.gpus > 1 and not launched_by_others())):
        launch(max(1, settings.system.gpus), sys.argv[1:], nodes=nodes, rendezvous=rendezvous)
        return
    from segkit.workflow.train_runs import train_runs

    world = join_world(settings.system.device)
    try:
        with one_line_if_a_rank_is_lost(world):
            train_runs(settings, world, run=run, resume=resume, flags=flags, stage=stage)
    finally:
        leave_world()
