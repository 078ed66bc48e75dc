"""`segkit profile`."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from segkit.cli.options import with_flags
from segkit.data.config import AugmentConfig, DataConfig
from segkit.errors import ConfigError
from segkit.training.config import ModelConfig, OptimConfig, SystemConfig, TrainConfig


@with_flags(DataConfig, ModelConfig, SystemConfig, OptimConfig, AugmentConfig)
def profile(
    command: Annotated[
        Optional[list[str]],  # noqa: UP045 - typer reads it
        typer.Argument(metavar="-- COMMAND", help="Any program: run it and sample the GPUs meanwhile."),
    ] = None,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("-o", "--output", help="Folder for the records. Default: runs/profile-<what>-<date-time>."),
    ] = None,
    config: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--config", help="TOML file of training settings; flags win over it."),
    ] = None,
    seconds: Annotated[float, typer.Option(help="Longest time that one setting is measured.", min=0.1)] = 20.0,
    counts: Annotated[str, typer.Option(help="Worker counts to try, e.g. 0,2,4. Default: 0 to the granted CPUs.")] = "",
    cold: Annotated[bool, typer.Option(help="Measure with a cold page cache, too.")] = True,
    verify: Annotated[
        bool, typer.Option("--verify", help="Train with the advice, to see if the prediction holds.")
    ] = False,
    *,
    flags: dict[str, Any],
) -> None:
    """Say what holds a training job back, and which loader and worker count to use.

    Measures the net alone, the pipeline with a cold and with a warm page cache, and worker counts in turns. With a
    command after --, runs that instead, samples the GPUs, and passes its signals and exit code on.
    """
    if command:
        from segkit.profiling.command import profile_command

        sys.exit(profile_command(command, output, interval=flags.get("sample_seconds", 0.5)))
    if not math.isfinite(seconds):
        raise ConfigError("--seconds", seconds, "a number")
    settings = TrainConfig.load(config, flags)
    from segkit.cli.report import report
    from segkit.runs import new_run_path
    from segkit.training.distributed import join_world
    from segkit.workflow.profile_run import ProfileOptions, profile_run

    if settings.model.model == "all":
        settings = settings.replace(model="unet")
    folder = output or new_run_path(f"profile-{settings.model.model}")
    options = ProfileOptions(seconds=seconds, counts=_counts(counts), cold=cold, verify=verify)
    profile_run(settings, join_world(settings.system.device), folder, options, _say)
    _say("")
    report([folder])


def _counts(text: str) -> tuple[int, ...]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not all(word.isascii() and word.isdigit() for word in words):
        raise ConfigError("--counts", text, "numbers with commas between them, e.g. 0,1,2,4")
    return tuple(int(word) for word in words)


def _say(text: str) -> None:
    """Progress, on a line that is redrawn; only for a person who watches."""
    if sys.stderr.isatty():
        print(f"\r{text}\x1b[K", end="", file=sys.stderr, flush=True)
