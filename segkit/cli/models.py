"""`segkit models`: the nets and what they cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from segkit.models.registry import ModelSpec

SIZE = 256  # pixels a side of the image that the operations are counted for


def models(
    width: Annotated[int, typer.Option(help="Channels of the first stage; 64 is the papers'.", min=1)] = 64,
    channels: Annotated[int, typer.Option(help="Input channels.", min=1)] = 3,
    classes: Annotated[int, typer.Option(help="Classes, background included.", min=2, max=256)] = 2,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List the nets with their parameters and the operations for one image of 256 x 256."""
    import json

    from segkit.errors import SegkitError
    from segkit.models import registry

    rows: list[dict[str, Any]] = []
    errors: list[SegkitError] = []
    for name in registry.names():
        try:
            rows.append(_row(registry.spec(name), width, channels, classes))
        except SegkitError as error:
            errors.append(error)
    shape = {"width": width, "channels": channels, "classes": classes, "size": SIZE}
    print(json.dumps({**shape, "models": rows}, indent=2) if json_ else _table(rows))
    if errors:
        raise errors[0]


def _row(spec: ModelSpec, width: int, channels: int, classes: int) -> dict[str, Any]:
    from segkit.models.cost import cost

    found = cost(spec.name, in_channels=channels, classes=classes, width=width, size=SIZE)
    return {
        "name": spec.name,
        "parameters": found.parameters,
        "gflops": round(found.gflops, 3),
        "summary": spec.summary,
        "paper": spec.paper,
    }


def _table(rows: list[dict[str, Any]]) -> str:
    wide = max([5, *(len(row["name"]) for row in rows)])
    lines = [f"{'model':{wide}}  {'parameters':>11}  {'GFLOPs':>8}  what"]
    for row in rows:
        figures = f"{row['parameters'] / 1e6:>9.2f} M  {row['gflops']:>8.1f}"
        lines.append(f"{row['name']:{wide}}  {figures}  {row['summary']} ({row['paper']})")
    return "\n".join(lines)
