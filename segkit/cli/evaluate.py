"""`segkit evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from segkit.cli.progress_bar import show_progress


def evaluate(
    subject: Annotated[Path, typer.Argument(metavar="RUN|MODEL.onnx", help="A run directory or an exported model.")],
    data: Annotated[str, typer.Option("--data", help="Dataset folder. Default: the one the run was trained on.")] = "",
    split: Annotated[str, typer.Option("--split", help="Patients: test, val, train or all.")] = "test",
    split_file: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads it
        typer.Option("--split-file", help="Split file. Default: the run's own."),
    ] = None,
    output: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("-o", "--output", help="JSON file; the Markdown goes beside it. Default: in the run."),
    ] = None,
    by_slice: Annotated[
        bool, typer.Option("--by-slice", help="Each slice for itself, without the model's rule for volumes.")
    ] = False,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    batch: Annotated[int, typer.Option("--batch", min=1, help="Slices at a time.")] = 8,
) -> None:
    """Per-patient table and figures under every named convention, with 95 % intervals over patients."""
    from segkit.errors import ConfigError
    from segkit.inference.segmenter import Slicing
    from segkit.training.evaluation_report import to_text
    from segkit.workflow.evaluate_run import PARTS, evaluate_subject, open_subject

    if split not in PARTS:
        raise ConfigError("--split", split, ", ".join(PARTS))

    summary, context, path = evaluate_subject(
        open_subject(subject, device, batch),
        data=data,
        part=split,
        split_file=split_file,
        output=output,
        slicing=Slicing(by_slice=by_slice),
        progress=show_progress,
    )
    show_progress("")
    print(to_text(summary, context))
    print(f"written: {path} and {path.with_suffix('.md').name}")
