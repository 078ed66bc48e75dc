"""The command line. Each verb is a module here, imported only when it is the one that was asked for."""

from __future__ import annotations

import importlib
import os
import sys
from typing import NoReturn

import typer

from segkit import __version__
from segkit.cli import plain
from segkit.errors import SegkitError
from segkit.unwritable import line_for

VERBS = (
    "train",
    "profile",
    "report",
    "bench",
    "slurm",
    "evaluate",
    "tune",
    "export",
    "segment",
    "serve",
    "data",
    "models",
    "doctor",
)
TRAINING_PACKAGES = ("torch", "onnx", "onnxscript", "scipy", "pynvml", "matplotlib")  # the extra "train"


def build_app(verbs: tuple[str, ...] = VERBS) -> typer.Typer:
    """The application with the given verbs; with one verb, only that verb's module is imported."""
    app = typer.Typer(
        name="segkit",
        help="Train, profile, export and run segmentation nets on MRI slices.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for verb in verbs:
        module = importlib.import_module(f"segkit.cli.{verb}")
        if hasattr(module, "app"):
            app.add_typer(module.app, name=verb)
        else:
            app.command(verb)(getattr(module, verb))
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


def _root(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Print the version."),
) -> None:
    """Train, profile, export and run segmentation nets on MRI slices."""


def main() -> None:
    """Run the verb in `sys.argv`. A user's mistake is one line on stderr and exit code 2."""
    verb = sys.argv[1] if len(sys.argv) > 1 else ""
    try:
        if verb == "segment" and not plain.wants_help(sys.argv[2:]):
            from segkit.cli.segment import segment

            plain.run(segment, sys.argv[2:])
            return
        build_app((verb,) if verb in VERBS else VERBS)()
    except SegkitError as error:
        _tell(error)
    except ModuleNotFoundError as error:
        if error.name not in TRAINING_PACKAGES:
            raise
        print(f"segkit: {verb} needs the package {error.name}; pip install 'segkit[train]'", file=sys.stderr)
        sys.exit(SegkitError.exit_code)
    except BrokenPipeError:
        # The reader (head, less) has gone: nothing is left to say, nor anyone to say it to.
        sys.stderr.close()
        sys.exit(141)
    except OSError as error:
        told = line_for(error)
        if told is None:
            raise
        _tell(told)


def _tell(error: SegkitError) -> NoReturn:
    # Of the ranks on a node one speaks: they all fail alike, and one line is enough.
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print(f"segkit: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
