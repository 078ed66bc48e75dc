"""The report as one HTML file that needs nothing else: no network, no script, no font."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

from segkit import __version__
from segkit.profiling.report import blocks, compare, sentences, svg
from segkit.profiling.report.charts_parts import stacked
from segkit.profiling.report.colours import css_variables, ordered
from segkit.profiling.report.html_run import run_section
from segkit.profiling.report.markup import Markup, el, joined
from segkit.profiling.summary import RunSummary


def to_html(summaries: Sequence[RunSummary]) -> str:
    """The page for one or more runs; with several, a comparison comes first."""
    charts = blocks.Charts()
    names = compare.names(summaries)
    with svg.style():
        if len(summaries) == 1:
            body = joined(
                el("h1", names[0]),
                el("p", sentences.extent(summaries[0]), class_="muted"),
                run_section(summaries[0], charts),
            )
        else:
            body = joined(_comparison(summaries, charts), _sections(summaries, names, charts))
    title = f"{', '.join(names)}: profile" if len(names) < 4 else f"{len(names)} runs: profile"
    return page(title, body)


def page(title: str, body: Markup) -> str:
    """A whole page around `body`, with the style and the patterns that its charts refer to."""
    foot = el("p", f"Written by segkit {__version__}. Epochs count from 1.", class_="muted")
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("title", title),
        el("style", Markup(css_variables() + _style_sheet())),
    )
    return "<!DOCTYPE html>\n" + el("html", head, el("body", el("main", svg.hatches(), body, foot)), lang="en") + "\n"


def _style_sheet() -> str:
    return resources.files("segkit.profiling.report").joinpath("page.css").read_text(encoding="utf-8")


def _comparison(summaries: Sequence[RunSummary], charts: blocks.Charts) -> Markup:
    names = compare.names(summaries)
    rows = [
        (name, {part: seconds / s.seconds for part, seconds in s.parts.items()} if s.seconds else {})
        for name, s in zip(names, summaries, strict=True)
    ]
    parts = list(dict.fromkeys(part for s in summaries for part, _ in ordered(s.parts)))
    differences = blocks.table(compare.differences(summaries))
    return joined(
        el("h1", f"{len(summaries)} runs side by side"),
        el("p", compare.sentence(summaries)),
        blocks.table(compare.comparison(summaries)),
        blocks.grid(
            charts(
                stacked(rows, "share of the wall-clock time", percent=True),
                "What each run's time went to",
                legend=blocks.parts_legend(parts),
            )
        ),
        el("h3", "Settings in which they differ") if differences else None,
        differences,
    )


def _sections(summaries: Sequence[RunSummary], names: Sequence[str], charts: blocks.Charts) -> list[Markup]:
    return [
        el(
            "section",
            el("h2", name),
            el("p", sentences.extent(summary), class_="muted"),
            run_section(summary, charts),
            class_="run",
        )
        for name, summary in zip(names, summaries, strict=True)
    ]
