"""`segkit export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer


def export(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    output: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads it
        typer.Option("-o", "--output", help="File to write. Default: model.onnx in the run."),
    ] = None,
    data: Annotated[
        str,
        typer.Option("--data", help="Dataset to check the export on. Default: the one the run was trained on."),
    ] = "",
    triton: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--triton", help="Also add it, as the next version, to this Triton model repository."),
    ] = None,
    form: Annotated[
        str,
        typer.Option(
            "--form",
            help="Write a smaller form: fp16 (weights of half the size), w8 (of a quarter) or int8 (of a quarter, and "
            "faster on CPUs). It is made from model.onnx, which is exported first where it is not up to date. -o then "
            "names the smaller form.",
        ),
    ] = "",
    name: Annotated[
        str, typer.Option("--name", help="Its name in the repository. Default: that of the run's directory.")
    ] = "",
) -> None:
    """Export the best checkpoint to ONNX, checked against the trained net on its validation slices."""
    from segkit.runs import open_run
    from segkit.workflow.export_run import export_form, export_run

    opened = open_run(run)
    if not form or not opened.has_current_model:
        path, parity = export_run(opened, None if form else output, data)
        print(f"{path} ({path.stat().st_size / 1e6:.1f} MB): {parity}")
    if form:
        path, parity = export_form(opened, form, output, data)
        moved = f"on average by {parity.mean_dice_delta:.5f}"
        print(f"{path} ({path.stat().st_size / 1e6:.1f} MB): {parity}; {moved}")
    if triton is not None:
        from segkit.export.onnx_model import read_metadata
        from segkit.export.triton import write_repository

        print(write_repository(path, read_metadata(path), triton, name or run.resolve().name))
