"""`segkit slurm`: batch scripts, filled in from flags."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from segkit.bench.study import StudyConfig
from segkit.bench.values import RESERVED
from segkit.cli.options import with_flags
from segkit.cluster.config import JobConfig
from segkit.cluster.script import Script
from segkit.config import Checked, flag, from_mapping
from segkit.errors import ConfigError, FileError
from segkit.serving.config import BatchConfig, Limits, ServerConfig
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
    words = [flag(key, value) for key, value in rest.items() if key != "gpus"]
    words = [f"--config={config}", *words] if config else words
    script = Script(
        "train",
        verb,
        words,
        nodes=nodes,
        gpus=0 if system.device == "cpu" else ranks,
        stage=stage,
        settings={"ranks": str(ranks), "run": run},
    )
    number = _give(script, job, submit)
    if number:
        print(f"run: {run or f'runs/slurm-{number}'}")


@app.command()
@with_flags(JobConfig, StudyConfig, several=tuple(SECTIONS.values()), without=(*RESERVED, "techniques"))
def sweep(
    submit: _Submit = False,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder of the study; the same one goes on with it.")
    ] = Path("bench/sweep"),
    config: _Config = None,
    retry: Annotated[bool, typer.Option("--retry", help="Measure again what failed.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the checkpoints of every cell.")] = False,
    *,
    flags: dict[str, Any],
) -> None:
    """Measure a grid (`segkit bench sweep`) as job arrays, a cell a task, and gather the results.

    The scripts are written into the study's folder; printed are the commands that submit them: pipe those into bash.
    """
    from segkit.bench.rows import StudyFolder
    from segkit.bench.slurm import submit as submit_study
    from segkit.bench.slurm import write_jobs
    from segkit.bench.sweep import SweepOptions, begin
    from segkit.cli.bench import study_of

    job, rest = _split(flags)
    folder = StudyFolder(output)
    study = begin(folder, study_of(folder.study, config, rest, ablation=False))
    options = SweepOptions(retry=retry, keep=keep)
    if submit:
        submit_study(folder, study, options, job, print)
        return
    jobs = write_jobs(folder, study, options, job)
    print(jobs.commands() if jobs is not None else "# all measurements are there")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
@with_flags(JobConfig)
def segment(
    context: typer.Context,
    scans: Annotated[Path, typer.Argument(metavar="LIST", help="File with the path of a scan on each line.")],
    submit: _Submit = False,
    tasks: Annotated[int, typer.Option("--tasks", help="Tasks of the array; each takes every n-th scan.", min=1)] = 4,
    output: Annotated[str, typer.Option("-o", "--output", help="Folder for the masks.")] = "masks",
    gpus: Annotated[int, typer.Option("--gpus", help="GPUs of a task; 0 with --device=cpu.", min=0)] = 1,
    *,
    flags: dict[str, Any],
) -> None:
    """Segment a list of scans as a job array. Flags of `segkit segment` pass through, e.g. --model=RUN --overlay.

    A scan that cannot be read fails its task (exit code 2), which names it; the others are done all the same.
    """
    job, _ = _split(flags)
    if not scans.is_file():
        raise FileError(
            scans, "is not a file", "write one with the path of a scan on each line: ls /data/*.nii.gz > LIST"
        )
    words = _words_of_segment(context.args)
    script = Script(
        "segment",
        "segment",
        words,
        gpus=0 if _asks_for_cpu(words) else gpus,
        array=f"0-{tasks - 1}",
        settings={"list": str(scans), "output": output, "tasks": str(tasks)},
    )
    _give(script, job, submit)


def _words_of_segment(words: list[str]) -> list[str]:
    """The words as they are, once every flag among them is known to be one of `segkit segment`."""
    import inspect

    from segkit.cli.segment import segment as verb

    known = {"--" + name.replace("_", "-") for name in inspect.signature(verb).parameters}
    for word in words:
        if word.startswith("-") and word.partition("=")[0] not in known:
            raise ConfigError("flag", word, "a flag of `segkit slurm segment` or `segkit segment`; see their --help")
    return words


def _asks_for_cpu(words: list[str]) -> bool:
    return "--device=cpu" in words or ("--device", "cpu") in pairwise(words)


@app.command()
@with_flags(JobConfig, ServerConfig, BatchConfig, Limits)
def serve(
    submit: _Submit = False,
    model: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--model", help="NAME=MODEL or MODEL: an .onnx file or a run directory. Repeatable."),
    ] = None,
    repository: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--repository", help="A Triton model repository; repeatable."),
    ] = None,
    gpus: Annotated[int, typer.Option("--gpus", help="GPUs; 0 with --device=cpu.", min=0)] = 1,
    *,
    flags: dict[str, Any],
) -> None:
    """Serve models on a node. The log says how to reach it: through ssh, for it listens on the node itself.

    Without --port each job has a port of its own. Before the time limit it answers what it has accepted, and requeues.
    """
    job, rest = _split(flags)
    for kind in (ServerConfig, BatchConfig, Limits):
        from_mapping(kind, _of(kind, rest), "serve")
    port = str(rest.pop("port", "") or "")
    words = [flag(key, value) for key, value in rest.items()]
    words += [
        f"--{key}={value}" for key, values in (("model", model), ("repository", repository)) for value in values or ()
    ]
    script = Script("serve", "serve", words, gpus=0 if rest.get("device") == "cpu" else gpus, settings={"port": port})
    _give(script, job, submit)


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
