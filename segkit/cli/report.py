"""`segkit report`: what a profile says, as a page, a table, Markdown, JSON or a trace."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from segkit.profiling.summary import RunSummary

FORMATS = ("html", "json", "markdown", "text", "trace")
_FILES = {"html": "report.html", "trace": "trace.json"}  # what is written without --output


def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Run directories, or folders that the profiler wrote.")
    ],
    output: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads it
        typer.Option(
            "-o", "--output", help="File to write. Default: report.html (trace.json) in the run; the rest is printed."
        ),
    ] = None,
    format_: Annotated[str, typer.Option("--format", help=f"{', '.join(FORMATS)}.")] = "html",
    open_: Annotated[bool, typer.Option("--open/--no-open", help="Show the page in the browser.")] = False,
) -> None:
    """Say where the time of one or more runs went and what to change: a page, and a table on the terminal."""
    from segkit.errors import ConfigError
    from segkit.files import write_text
    from segkit.profiling.analysis import profile_folder, summarise
    from segkit.profiling.report.text import to_text
    from segkit.resources import cache_folder

    if format_ not in FORMATS:
        raise ConfigError("--format", format_, ", ".join(FORMATS))
    if open_ and format_ != "html":
        raise ConfigError("--open", f"with --format {format_}", "--format html")
    for run in runs:
        profile_folder(run)  # all of them, before the first is read
    summaries = [summarise(run) for run in runs]
    target = output or _default_target(runs, format_)
    if format_ == "trace" and target:
        print(_write_trace(runs, summaries, target))
        return
    text = _rendered(summaries, format_, cache_folder(runs[0].parent))
    if target is None:
        sys.stdout.write(text)
        return
    write_text(target, text)
    if format_ == "html":
        print(to_text(summaries, bold=sys.stdout.isatty()))
    print(f"written: {target}")
    if open_:
        _show(target)


def _default_target(runs: list[Path], format_: str) -> Path | None:
    """In the run directory of one run, in the working directory for several; None: to standard output."""
    name = _FILES.get(format_)
    return None if name is None else Path(name) if len(runs) > 1 else runs[0] / name


def _rendered(summaries: list[RunSummary], format_: str, cache: Path) -> str:
    if format_ == "html":
        from segkit.caches import keep_fonts_in

        keep_fonts_in(cache)
        from segkit.profiling.report.html_page import to_html

        return to_html(summaries)
    if format_ == "markdown":
        from segkit.profiling.report.markdown import to_markdown

        return to_markdown(summaries)
    if format_ == "json":
        from segkit.profiling.report.json_text import to_json

        return to_json(summaries)
    from segkit.profiling.report.text import to_text

    return to_text(summaries)


def _write_trace(runs: list[Path], summaries: list[RunSummary], target: Path) -> str:
    from segkit.profiling.report.compare import names
    from segkit.profiling.report.trace import write_trace

    events = write_trace(runs, names(summaries), target)
    return f"written: {target} ({events:,} events; open it in Perfetto or chrome://tracing)"


def _show(page: Path) -> None:
    import webbrowser

    if not webbrowser.open(page.resolve().as_uri()):
        print("no browser was found to show it", file=sys.stderr)
