"""Turns the fields of configuration dataclasses into command-line flags, so that each default stands in one place."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Optional

import typer

from segkit.config import Checked


def with_flags(
    *components: type[Checked], several: Sequence[type[Checked]] = (), without: Sequence[str] = ()
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate a verb `f(..., flags: dict)` so that every field of `components` is a flag of it.

    The verb gets only the flags that were given, by field name, so that a file's values can lie under them. The
    fields of `several` are flags, too, each for one or more values with commas between; they come as typed.
    Fields named in `without` are no flags.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        kinds = [*components, *several]
        fields = [(kind, field) for kind in kinds for field in dataclasses.fields(kind) if field.name not in without]
        names = {field.name for _, field in fields}

        def verb(**values: Any) -> Any:
            given = {key: value for key, value in values.items() if key in names and value is not None}
            rest = {key: value for key, value in values.items() if key not in names}
            return function(**rest, flags=given)

        own = [p for p in inspect.signature(function, eval_str=True).parameters.values() if p.name != "flags"]
        flags = [_parameter(kind, field, kind in several) for kind, field in fields]
        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in [*own, *flags]]
        verb.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        verb.__annotations__ = {p.name: p.annotation for p in parameters}
        verb.__doc__ = function.__doc__
        verb.__name__ = function.__name__
        return verb

    return decorate


def _parameter(kind: type[Checked], field: dataclasses.Field[Any], several: bool) -> inspect.Parameter:
    name = "--" + field.name.replace("_", "-")
    switch = isinstance(field.default, bool)
    declaration = f"{name}/--no-{name[2:]}" if switch and not several else name
    shown = field.default if field.default != "" else "none"
    if switch and several:
        shown = "on" if field.default else "off"
    info = typer.Option(
        declaration,
        help=f"{field.metadata['help']} (default: {shown})",
        show_default=False,
        rich_help_panel=(kind.__doc__ or "").split("\n")[0].rstrip("."),
    )
    # A number that may be named by a word is read as text; the dataclass turns it into the number.
    as_text = several or field.metadata.get("words")
    kind_or_none: Any = Optional[str if as_text else type(field.default)]  # noqa: UP045
    annotation = Annotated[kind_or_none, info]
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
