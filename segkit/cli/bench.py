"""`segkit bench`: which net, how many GPUs, how many workers, which optimisation, and why."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from segkit.bench.study import StudyConfig
from segkit.bench.values import RESERVED
from segkit.cli.options import with_flags
from segkit.training.config import SECTIONS

if TYPE_CHECKING:
    from segkit.bench.study import Study

app = typer.Typer(
    help="Compare nets, GPUs, workers and optimisations: measure a grid of trainings and explain it.",
    no_args_is_help=True,
)

_Output = Annotated[Path, typer.Option("-o", "--output", help="Folder of the study; the same one goes on with it.")]
_Config = Annotated[
    Optional[Path],  # noqa: UP045 - typer reads it
    typer.Option("--config", help="TOML file with the sections study and settings; flags win over it."),
]
_Retry = Annotated[bool, typer.Option("--retry", help="Measure again what failed.")]
_Keep = Annotated[bool, typer.Option("--keep", help="Keep the checkpoints of every cell.")]
_Slurm = Annotated[bool, typer.Option("--slurm", help="Submit the measurements to SLURM as job arrays.")]
_Sbatch = Annotated[str, typer.Option("--sbatch", help="Options for sbatch, e.g. '--partition=gpu --time=1:00:00'.")]
_Task = Annotated[str, typer.Option("--task", help="Measure this position of the plan only (a job of an array).")]
_Gather = Annotated[bool, typer.Option("--gather", help="Only collect the results of the jobs.")]


@app.command()
@with_flags(StudyConfig, several=tuple(SECTIONS.values()), without=(*RESERVED, "techniques"))
def sweep(
    output: _Output = Path("bench/sweep"),
    config: _Config = None,
    retry: _Retry = False,
    keep: _Keep = False,
    slurm: _Slurm = False,
    sbatch: _Sbatch = "",
    task: _Task = "",
    gather: _Gather = False,
    *,
    flags: dict[str, Any],
) -> None:
    """Measure a grid: every flag of `segkit train` takes one value or several, e.g. --gpus 1,2,4 --workers 0,2,4.

    Each cell is a training of its own with the profiler on. Results are appended to results.jsonl as each ends; the
    same command goes on with an interrupted study.
    """
    _measure(output, config, flags, {"retry": retry, "keep": keep}, slurm, sbatch, task, gather)


@app.command()
@with_flags(StudyConfig, several=tuple(SECTIONS.values()), without=RESERVED)
def ablate(
    output: _Output = Path("bench/ablation"),
    config: _Config = None,
    retry: _Retry = False,
    keep: _Keep = False,
    slurm: _Slurm = False,
    sbatch: _Sbatch = "",
    task: _Task = "",
    gather: _Gather = False,
    *,
    flags: dict[str, Any],
) -> None:
    """Measure what each technique gives alone and in company.

    Begins with the plain loop (fp32, files decoded in the training process), adds the techniques one after another,
    takes each one away from the full set, and adds each one alone. Default: those that make sense on this machine.
    """
    _measure(output, config, flags, {"retry": retry, "keep": keep}, slurm, sbatch, task, gather, ablation=True)


def _measure(
    output: Path,
    config: Path | None,
    flags: dict[str, Any],
    options: dict[str, bool],
    slurm: bool,
    sbatch: str,
    task: str,
    gather: bool,
    *,
    ablation: bool = False,
) -> None:
    from segkit.bench.rows import StudyFolder

    folder = StudyFolder(output)
    if gather:
        folder.open_study()
        print(f"{folder.gather()} new results; {folder.results}")
        return
    from segkit.bench.sweep import SweepOptions, begin, sweep, task_of

    study = study_of(folder.study, config, flags, ablation=ablation)
    study = begin(folder, study)
    plan = study.plan()
    if slurm:
        from segkit.bench.slurm import submit
        from segkit.cluster.config import JobConfig

        submit(folder, study, SweepOptions(**options), JobConfig(sbatch=sbatch), print)
        return
    if not task:
        print(f"{len(study.cells())} cells, each {study.config.repeats} times; {folder.results}", flush=True)
    tasks = [task_of(task, len(plan))] if task else None
    sweep(folder, study, SweepOptions(**options), lambda line: print(line, flush=True), tasks=tasks)
    if not task:
        print(f"next: segkit bench report {output}")


def study_of(there: Path, config: Path | None, flags: dict[str, Any], *, ablation: bool) -> Study:
    """The study that the flags describe; without any, the one that was begun in the folder."""
    from segkit.bench.study import Study
    from segkit.bench.techniques import default_techniques

    if config is None and not flags and there.exists():
        return Study.load(there, {}, {})
    own = StudyConfig.__dataclass_fields__
    study = Study.load(
        config,
        {key: text for key, text in flags.items() if key not in own},
        {key: value for key, value in flags.items() if key in own},
    )
    if ablation and not study.config.techniques:
        study = study.with_techniques(default_techniques(str(study.settings.get("device", "auto"))))
    return study.checked()


REPORT_FORMATS = ("html", "markdown", "csv", "png")


@app.command()
def report(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="Folder of a study, finished or not.")],
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("-o", "--output", help="Folder for the files. Default: report/ in the study."),
    ] = None,
    format_: Annotated[
        str, typer.Option("--format", help="Files to write, with commas between; or text, for the terminal only.")
    ] = ",".join(REPORT_FORMATS),
) -> None:
    """Explain a study: table, pictures, ablation, accuracy against cost, scaling, and the findings with their why."""
    from segkit.errors import ConfigError

    formats = tuple(word.strip() for word in format_.split(",") if word.strip())
    if not formats or (formats != ("text",) and not set(formats) <= set(REPORT_FORMATS)):
        raise ConfigError("--format", format_, ", ".join(REPORT_FORMATS) + "; or text")
    from segkit.bench.comparison import Comparison
    from segkit.bench.rows import StudyFolder
    from segkit.caches import keep_fonts_in

    keep_fonts_in(StudyFolder(study).cache)  # before matplotlib comes in
    from segkit.bench.report import sections, title
    from segkit.bench.report_files import to_text, write_report

    comparison = Comparison.load(study)
    sys.stdout.write(to_text(title(comparison), sections(comparison)))
    if formats != ("text",):
        for path in write_report(comparison, output or study / "report", formats):
            print(f"written: {path}")


@app.command()
def infer(
    model: Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="An exported model, or a run that holds one.")],
    image: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--image", help="A scan to run on. Default: noise of the size that the model was trained on."),
    ] = None,
    batch: Annotated[str, typer.Option(help="Batch sizes.")] = "1,4,8",
    threads: Annotated[str, typer.Option(help="Threads of ONNX Runtime. Default: 1 and the granted CPUs.")] = "",
    provider: Annotated[str, typer.Option(help="cpu, cuda, tensorrt, openvino, coreml, directml.")] = "cpu",
    precision: Annotated[str, typer.Option(help="fp32, fp16, int8; made by ONNX Runtime's own tools.")] = "fp32",
    seconds: Annotated[float, typer.Option(help="Seconds of timed runs of each setting.", min=0.0)] = 3.0,
    rounds: Annotated[int, typer.Option(help="Processes of each setting, in shuffled order.", min=1)] = 3,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("-o", "--output", help="Write every latency as JSON Lines, too."),
    ] = None,
) -> None:
    """Latency (p50, p95, p99), throughput and cold start of an exported model.

    Each option takes several values with commas between; every combination runs in a process of its own.
    """
    import numpy as np

    from segkit.bench.inference import InferenceGrid, measure_inference, table, write_rows
    from segkit.bench.inference_input import images_for
    from segkit.profiling.report.text import aligned, wrapped
    from segkit.resources import granted_cpus

    path = model / "model.onnx" if model.is_dir() else model
    grid = InferenceGrid(
        _numbers("--batch", batch),
        _numbers("--threads", threads) if threads else tuple(sorted({1, granted_cpus()})),
        _words(provider),
        _words(precision),
        seconds,
        rounds,
    )
    images = images_for(path, image)
    rows = measure_inference(path, grid, np.ascontiguousarray(images), _progress)
    _progress("")
    found = table(rows)
    print(f"{path}, slices of {images.shape[2]} x {images.shape[1]}" + ("" if image else " (noise)"))
    print(aligned(found))
    print(wrapped(found.note))
    if output is not None:
        write_rows(output, rows)
        print(f"written: {output}")


def _numbers(key: str, text: str) -> tuple[int, ...]:
    from segkit.errors import ConfigError

    if not all(word.isascii() and word.isdigit() for word in _words(text)):
        raise ConfigError(key, text, "numbers with commas between them, e.g. 1,4,8")
    return tuple(int(word) for word in _words(text))


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _progress(text: str) -> None:
    """On a line that is redrawn; only for a person who watches."""
    if sys.stderr.isatty():
        print(f"\r{text}\x1b[K", end="", file=sys.stderr, flush=True)
