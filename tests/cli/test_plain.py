from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import pytest
import typer

from segkit.cli import plain
from segkit.cli.segment import segment
from segkit.errors import SegkitError

_Path = Optional[Path]  # noqa: UP045
_Number = Optional[int]  # noqa: UP045
_Texts = Optional[list[str]]  # noqa: UP045

received: dict[str, Any] = {}


def verb(
    scans: Annotated[_Texts, typer.Argument()] = None,
    output: Annotated[_Path, typer.Option("--output", "-o")] = None,
    batch_size: Annotated[_Number, typer.Option()] = None,
    device: Annotated[str, typer.Option()] = "auto",
    force: Annotated[bool, typer.Option("--force")] = False,
) -> None:
    received.update(locals())


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["a.tif", "b.tif"],
        ["a.tif", "--force", "b.tif", "-o", "out"],
        ["--output=out", "--batch-size", "3", "--device", "cpu", "--", "-odd.tif"],
    ],
)
def test_values_are_those_that_typer_gives(arguments: list[str]) -> None:
    app = typer.Typer()
    app.command()(verb)
    results = []
    for run in (lambda: app(arguments, standalone_mode=False), lambda: plain.run(verb, arguments)):
        received.clear()
        run()
        results.append({name: value or None for name, value in received.items()})
    assert results[0] == results[1]
    assert len(results[0]) == 5


@pytest.mark.parametrize("arguments", [["--nosuch"], ["--batch-size", "many"], ["--dev", "cpu"], ["-o"]])
def test_a_wrong_flag_is_one_line(arguments: list[str]) -> None:
    with pytest.raises(SegkitError, match=f"{arguments[0]}.*; see segkit verb --help"):
        plain.run(verb, arguments)


def test_segment_can_be_run_so() -> None:
    with pytest.raises(SegkitError, match="no scan is given"):
        plain.run(segment, [])
    assert plain.wants_help(["a.tif", "-h"])
    assert not plain.wants_help(["a.tif"])
