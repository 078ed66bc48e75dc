"""`segkit slurm`: batch scripts, filled in from flags."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from segkit.cli.options import with_flags
from segkit.cluster.config import JobConfig
from segkit.cluster.script import Script
from segkit.config import Checked, flag, from_mapping
from segkit.training.config import SECTIONS, TrainConfig

app = typer.Typer(
    help="Write batch jobs for SLURM, or submit them: each saves before its time limit, requeues itself and goes on.",
    no_args_is_help=True,
)

_Submit = Annotated[bool, typer.Option("--submit", help="Submit the script instead of printing it.")]
_Run = Annotated[
    str, typer.Option("--run", help="Run directory, gone on with where it is there (default: runs/slurm-JOB).")
]
_Config = Annotated[
    Optional[Path],  # noqa: UP045 - typer reads it
    typer.Option("--config", help="TOML file of settings; flags win over it."),
]
_Stage = Annotated[bool, typer.Option("--stage", help="Read a copy of the dataset on the node's own disk.")]


@app.command()
@with_flags(JobConfig, *SECTIONS.values())
def train(
    submit: _Submit = False,
    run: _Run = "",
    config: _Config = None,
    stage: _Stage = False,
    *,
    flags: dict[str, Any],
) -> None:
    """Train on one node: every flag of `segkit train` passes through; --gpus is the number of GPUs that is asked for.

    On a CPU (--device=cpu) none is. Print it, look at it, and pipe it into sbatch; or --submit.
    """
    _train("train", 1, run, config, stage, flags, submit)


@app.command()
@with_flags(JobConfig, *SECTIONS.values())
def multinode(
    submit: _Submit = False,
    nodes: Annotated[int, typer.Option("--nodes", help="How many nodes.", min=2, max=1024)] = 2,
    run: _Run = "",
    config: _Config = None,
    stage: _Stage = False,
    *,
    flags: dict[str, Any],
) -> None:
    """Train on several nodes, --gpus ranks on each: one task a node, which starts the node's ranks."""
    _train("multinode", nodes, run, config, stage, flags, submit)


def _train(
    verb: str, nodes: int, run: str, config: Path | None, stage: bool, flags: dict[str, Any], submit: bool
) -> None:
    job, rest = _split(flags)
    system = TrainConfig.load(config, rest).system
    ranks = max(1, system.gpus)
    words = ["train", *([f"--config={config}"] if config else []), *(flag(key, value) for key, value in rest.items())]
    script = Script(
        "train",
        verb,
        words,
        nodes=nodes,
        gpus=0 if system.device == "cpu" else ranks,
        ranks=ranks,
        stage=stage,
        settings={"run": run},
    )
    number = _give(script, job, submit)
    if number:
        print(f"run: {run or f'runs/slurm-{number}'}")


def _split(flags: dict[str, Any]) -> tuple[JobConfig, dict[str, Any]]:
    """What the job is, and what goes on to segkit."""
    own = _of(JobConfig, flags)
    return from_mapping(JobConfig, own, "slurm"), {key: value for key, value in flags.items() if key not in own}


def _of(kind: type[Checked], flags: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in flags.items() if key in kind.__dataclass_fields__}


def _give(script: Script, job: JobConfig, submit: bool) -> str:
    """Print the script, or submit it and say where it is; the job's number, "" where it was printed."""
    text = script.text(job)
    if not submit:
        sys.stdout.write(text)
        return ""
    from segkit.cluster.submit import check_log
    from segkit.cluster.submit import submit as hand_over

    check_log(script.log(job))
    number = hand_over([], text)
    log = script.log(job).replace("%j", number).replace("%A", number)
    print(f"job {number}: submitted; `squeue -j {number}` shows it\nlog: {log}")
    return number
