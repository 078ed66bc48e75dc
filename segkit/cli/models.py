"""`segkit models`: the installed models, adding one, and the nets that can be trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from segkit.inference.catalogue import Installed
    from segkit.models.registry import ModelSpec

SIZE = 256  # pixels a side of the image that the operations are counted for

app = typer.Typer(help="List the installed models and the nets that can be trained; add a model.")


@app.callback(invoke_without_command=True)
def models(
    context: typer.Context,
    width: Annotated[
        int, typer.Option(help="Of the nets: channels of the first stage; 64 is the papers'.", min=1)
    ] = 64,
    channels: Annotated[int, typer.Option(help="Of the nets: input channels.", min=1)] = 3,
    classes: Annotated[int, typer.Option(help="Of the nets: classes, background included.", min=2, max=256)] = 2,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """List the installed models, and the nets with their parameters and operations for one image of 256 x 256."""
    if context.invoked_subcommand is not None:
        return
    import json
    from importlib.util import find_spec

    from segkit.errors import SegkitError
    from segkit.inference.catalogue import installed

    ready = [installed_row(model) for model in installed()]
    nets: list[dict[str, Any]] = []
    errors: list[SegkitError] = []
    has_torch = find_spec("torch") is not None
    if has_torch:
        from segkit.models import registry

        for name in registry.names():
            try:
                nets.append(_net_row(registry.spec(name), width, channels, classes))
            except SegkitError as error:
                errors.append(error)
    if json_:
        shape = {"width": width, "channels": channels, "classes": classes, "size": SIZE}
        print(json.dumps({"installed": ready, **shape, "models": nets}, indent=2))
    else:
        print(installed_table(ready), "", _net_table(nets) if has_torch else _NO_TORCH, sep="\n")
    if errors:
        raise errors[0]


@app.command()
def add(
    file: Annotated[Path, typer.Argument(help="An .onnx file that segkit exported.", show_default=False)],
    name: Annotated[str, typer.Option(help="Name to find it by. Default: that of the file, or of the run.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Replace an added model of that name.")] = False,
) -> None:
    """Keep a model, so that `segkit segment --model NAME` and `segkit serve --model NAME` find it everywhere."""
    from segkit.inference.catalogue import add_model

    model = add_model(file, name, force=force)
    print(f"{model.name}: {model.path}, SHA-256 {model.sha256}")


@app.command()
def card(name: Annotated[str, typer.Argument(help="Of an installed model.")]) -> None:
    """Print a model's card: data, licence, figures, failures."""
    from segkit.errors import SegkitError
    from segkit.inference.catalogue import find_installed, installed

    model = find_installed(name)
    if model is None:
        raise SegkitError(f"{name}: no such model is installed (there is: {', '.join(m.name for m in installed())})")
    if not model.card.is_file():
        raise SegkitError(f"{name}: has no card; {model.card.name} beside the file that is added would be one")
    print(model.card.read_text(encoding="utf-8"), end="")


_DEVICES = {"cpu": "CPUs", "cuda": "GPUs"}
_NO_TORCH = "Nets to train: needs torch; pip install 'segkit[train]'"


def installed_row(model: Installed) -> dict[str, Any]:
    """What `segkit models --json` says of one model; "problem" where its file is damaged."""
    from segkit.errors import SegkitError

    row = {
        "name": model.name,
        "default_on": list(model.default_on),
        "packaged": model.packaged,
        "path": str(model.path),
    }
    row |= {"bytes": model.path.stat().st_size if model.path.is_file() else 0, "sha256": model.sha256}
    try:
        model.checked()
    except SegkitError as error:
        return {**row, "problem": str(error)}
    return {**row, "problem": None}


def installed_table(rows: list[dict[str, Any]]) -> str:
    """What `segkit models` prints of them."""
    if not rows:
        return "No model is installed; `segkit models add FILE` keeps one."
    wide = max(len(row["name"]) for row in rows)
    lines = ["Installed models:"]
    for row in rows:
        what = row["problem"] or (f"SHA-256 {row['sha256'][:12]}" if row["sha256"] else "put there by hand")
        devices = " and ".join(_DEVICES[device] for device in row["default_on"])
        marks = f"default on {devices}, " if devices else ""
        lines.append(f"  {row['name']:{wide}}  {row['bytes'] / 1e6:>5.1f} MB  {marks}{what}")
    return "\n".join(lines)


def _net_row(spec: ModelSpec, width: int, channels: int, classes: int) -> dict[str, Any]:
    from segkit.models.cost import cost

    found = cost(spec.name, in_channels=channels, classes=classes, width=width, size=SIZE)
    return {
        "name": spec.name,
        "parameters": found.parameters,
        "gflops": round(found.gflops, 3),
        "summary": spec.summary,
        "paper": spec.paper,
    }


def _net_table(rows: list[dict[str, Any]]) -> str:
    wide = max([5, *(len(row["name"]) for row in rows)])
    lines = ["Nets to train:", f"  {'model':{wide}}  {'parameters':>11}  {'GFLOPs':>8}  what"]
    for row in rows:
        figures = f"{row['parameters'] / 1e6:>9.2f} M  {row['gflops']:>8.1f}"
        lines.append(f"  {row['name']:{wide}}  {figures}  {row['summary']} ({row['paper']})")
    return "\n".join(lines)
