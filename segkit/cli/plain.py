"""Runs one typer command without typer's machinery, for a verb whose start-up the user waits for.

typer validates every value with pydantic, whose import alone takes a fifth of the time from a slice to its
mask. The signature stays the one description of the flags: here argparse reads it. Help is left to typer.
"""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, get_args, get_origin

from typer.models import ArgumentInfo, OptionInfo

from segkit.errors import SegkitError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SegkitError(f"{message}; see {self.prog} --help")


def run(function: Callable[..., None], arguments: Sequence[str]) -> None:
    """Call `function`, whose parameters are `Annotated` for typer, with the values in `arguments`.

    Strings, paths, integers, floats, lists of them as arguments, and on-flags are understood.

    Raises:
        SegkitError: a wrong flag or value.
    """
    parser = _Parser(prog=f"segkit {function.__name__}", add_help=False, allow_abbrev=False)
    positional = ""
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        kind, info = get_args(parameter.annotation)[:2]
        _add(parser, parameter, next((arg for arg in get_args(kind) if arg is not type(None)), kind), info)
        positional = parameter.name if isinstance(info, ArgumentInfo) else positional
    words = list(arguments)
    end = words.index("--") if "--" in words else len(words)  # argparse loses what follows among mixed words
    values = vars(parser.parse_intermixed_args(words[:end]))
    if positional:
        values[positional] = [*values[positional], *words[end + 1 :]]
    function(**values)


def wants_help(arguments: Sequence[str]) -> bool:
    """Whether these arguments ask for help, which typer prints."""
    return not {"-h", "--help"}.isdisjoint(arguments)


def _add(
    parser: argparse.ArgumentParser, parameter: inspect.Parameter, kind: Any, info: OptionInfo | ArgumentInfo
) -> None:
    if isinstance(info, ArgumentInfo):
        parser.add_argument(
            parameter.name, nargs="*", type=_converter(get_args(kind)[0]), metavar=parameter.name.upper()
        )
        return
    # Inside Annotated the first name of typer.Option("--output", "-o") lands in its parameter `default`.
    given = (info.default, *(info.param_decls or ()))
    names = [name for name in given if isinstance(name, str)] or [f"--{parameter.name.replace('_', '-')}"]
    if kind is bool:
        parser.add_argument(*names, dest=parameter.name, action="store_true")
    else:
        parser.add_argument(*names, dest=parameter.name, type=_converter(kind), default=parameter.default)


def _converter(kind: Any) -> Callable[[str], Any]:
    if kind not in (str, int, float, Path) or get_origin(kind) is not None:
        raise TypeError(f"{kind} is not a type that a plain command line has")
    converter: Callable[[str], Any] = kind
    return converter
