"""The pieces that a page is built of: tables, charts with their legends, the verdict, the figures at the top."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from matplotlib.figure import Figure

from segkit.profiling.report import sentences, svg, words
from segkit.profiling.report.colours import COLOURS, label
from segkit.profiling.report.markup import Markup, el, joined, text
from segkit.profiling.report.tables import Table, figures
from segkit.profiling.summary import RunSummary


def prose(said: str) -> Markup:
    """A sentence, with what stands between backticks as code."""
    pieces = said.split("`")
    if len(pieces) % 2 == 0:
        return text(said)
    return joined([el("code", piece) if i % 2 else piece for i, piece in enumerate(pieces)])


class Charts:
    """Gives each chart of a page ids of its own."""

    def __init__(self) -> None:
        self._number = count(1)

    def __call__(
        self, drawing: Figure, title: str, captions: Sequence[str] = (), legend: Markup | None = None
    ) -> Markup:
        """A `<figure>` with a title above and a paragraph below for each caption that is not empty."""
        picture = svg.inline(drawing, f"c{next(self._number)}", title)
        said = [el("p", caption) for caption in captions if caption]
        return el("figure", el("h4", title), legend, picture, el("figcaption", said) if said else None)


def grid(*charts: Markup | None) -> Markup | None:
    """Charts side by side where the screen is wide enough; None where there is no chart."""
    there = [chart for chart in charts if chart is not None]
    return el("div", there, class_="charts") if there else None


def swatch(part: str) -> Markup:
    """The part's colour, hatched as in the charts."""
    name = part if part in COLOURS else "other"
    return el("span", class_=f"swatch {name}", style=f"--of:var(--{name})")


def parts_legend(parts: Sequence[str]) -> Markup:
    """Names beside their colours."""
    return el("ul", [el("li", swatch(part), label(part)) for part in parts], class_="legend")


def lines_legend(curves: Sequence[tuple[str, str]]) -> Markup | None:
    """Names beside their strokes, (name, colour's name) each; None for a single line, which its title names."""
    if len(curves) < 2:
        return None
    items = [
        el("li", el("span", class_=f"stroke {colour}", style=f"--of:var(--{colour})"), name) for name, colour in curves
    ]
    return el("ul", items, class_="legend")


def markers_legend(loaders: Sequence[tuple[str, tuple[str, str]]]) -> Markup | None:
    """Names of loaders beside their markers, (name, (colour's name, marker)) each; None for one loader."""
    if len(loaders) < 2:
        return None
    items = [
        el("li", el("span", letter, style=f"color:var(--{colour})", aria_hidden="true"), " ", name or "loader")
        for name, (colour, letter) in loaders
    ]
    return el("ul", items, class_="legend")


def table(found: Table) -> Markup | None:
    """A table that scrolls sideways within the page where it is too wide; None where it has no rows."""
    if not found.rows:
        return None
    sides = ["r" if side == "r" else None for side in found.align]
    head = [el("th", name, class_=side, scope="col") for name, side in zip(found.head, sides, strict=True)]
    rows = []
    for index, row in enumerate(found.rows):
        mark = swatch(found.keys[index]) if found.keys else None
        cells = [
            el("td", mark if column == 0 else None, value, class_=side or ("t" if len(value) > 28 else None))
            for column, (value, side) in enumerate(zip(row, sides, strict=True))
        ]
        rows.append(el("tr", cells))
    whole = el("table", el("thead", el("tr", head)), el("tbody", rows))
    return joined(
        el("div", whole, class_="wide", tabindex="0"), el("p", found.note, class_="note") if found.note else None
    )


def folded(title: str, *inside: Markup | None) -> Markup:
    """Something that a reader opens."""
    return el("details", el("summary", title), *inside)


def verdict(summary: RunSummary) -> Markup:
    """The verdict in a sentence, what to change, and how sure it is."""
    found = summary.verdict
    if found is None:
        return el("div", el("p", prose(sentences.NO_VERDICT)), class_="verdict")
    advice = el("ol", [el("li", prose(item)) for item in found.advice]) if found.advice else None
    return el(
        "div",
        el("p", found.title, class_="title"),
        el("p", prose(found.sentence)),
        advice,
        el("p", prose(found.sure), class_="muted") if found.sure else None,
        class_="verdict" if found.kind in ("none", "unknown") else "verdict bound",
    )


def key_figures(summary: RunSummary) -> Markup:
    """The run's main figures as tiles, those that are known."""
    shown = [(name, value) for name, value in figures(summary) if value != words.NONE]
    return el("dl", [el("div", el("dt", name), el("dd", value)) for name, value in shown], class_="figures")
