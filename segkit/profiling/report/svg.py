"""A matplotlib figure as SVG that lives in a page: no size of its own, ids of its own, the page's colours and font."""

from __future__ import annotations

import contextlib
import html
import io
import re
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from segkit.profiling.report.colours import COLOURS, HATCHED, light
from segkit.profiling.report.markup import Markup

WIDTH = 360  # user units; about the pixels that a phone has for a chart
_BY_COLOUR = {pair[0]: name for name, pair in COLOURS.items()}
_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


def per_cent(axis: Axis) -> None:
    """Write an axis of shares in per cent, with as many digits as its ticks need."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{round(100 * value, 3):g} %"))


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Within it, figures are made and written in the page's style."""
    values: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "segkit",
        "text.parse_math": False,  # names of runs and hosts may hold dollar signs
        "font.size": 11,
        "text.color": light("ink"),
        "axes.edgecolor": light("line"),
        "axes.labelcolor": light("muted"),
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.unicode_minus": True,
        "grid.color": light("line"),
        "grid.linewidth": 0.7,
        "xtick.color": light("line"),
        "ytick.color": light("line"),
        "xtick.labelcolor": light("muted"),
        "ytick.labelcolor": light("muted"),
        "xtick.labelsize": 10.5,
        "ytick.labelsize": 10.5,
        "lines.linewidth": 1.6,
    }
    with mpl.rc_context(values):
        yield


def new(
    height: float, *, left: float = 42, right: float = 10, top: float = 10, bottom: float = 38
) -> tuple[Figure, Axes]:
    """A figure of `height` units with one axes, and margins in units."""
    figure = Figure(figsize=(WIDTH / 72, height / 72), facecolor="none")
    FigureCanvasSVG(figure)
    axes = figure.add_axes(
        (left / WIDTH, bottom / height, (WIDTH - left - right) / WIDTH, (height - top - bottom) / height),
        facecolor="none",
    )
    return figure, axes


def fill(part: str) -> dict[str, Any]:
    """How an area of this colour is drawn."""
    return {"facecolor": light(part), "edgecolor": light("card")}


def inline(figure: Figure, name: str, label: str) -> Markup:
    """The figure as an `<svg>` element; `name` is unique in the page and begins each id, `label` says what it shows."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=_METADATA, transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].strip()
    # matplotlib's style element would hold for the whole page, so it goes; the root has what it says.
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"<[^>]+>", lambda found: _in_page(found.group(), name), text)
    text = re.sub(r"\s*\n\s*", " ", text).replace("> <", "><")
    view = re.search(r'viewBox="([^"]*)"', text)
    size = view.group(1) if view else f"0 0 {WIDTH} 200"
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{size}" stroke-linejoin="round" role="img" '
        f'aria-label="{html.escape(label, quote=True)}">'
    )
    return Markup(head + text[text.index(">") + 1 :])


def _in_page(tag: str, name: str) -> str:
    """One tag (never the text between tags) with the page's ids, colours, font and a sensible precision."""
    tag = re.sub(r'\bid="', f'id="{name}-', tag)
    tag = re.sub(r"url\(#", f"url(#{name}-", tag)
    tag = re.sub(r'xlink:href="#', f'href="#{name}-', tag)
    tag = re.sub(r"(fill: )?(#[0-9a-f]{6})\b", lambda found: _paint(found.group(1) or "", found.group(2)), tag)
    tag = re.sub(r"font-family: [^;\"]*", "font-family: var(--font, sans-serif)", tag)
    return re.sub(r"\d+\.\d{3,}", lambda found: f"{float(found.group()):.2f}".rstrip("0").rstrip("."), tag)


def _paint(what: str, colour: str) -> str:
    """A drawing's colour as the page's variable; areas of hatched parts as the page's pattern."""
    name = _BY_COLOUR.get(colour)
    if name is None:
        return what + colour
    variable = f"var(--{name}, {colour})"
    return f"{what}url(#hatch-{name}) {variable}" if what and name in HATCHED else what + variable


def hatches() -> Markup:
    """The patterns that the charts' areas refer to; stands once in the page."""
    patterns = "".join(
        f'<pattern id="hatch-{name}" width="5" height="5" patternUnits="userSpaceOnUse">'
        f'<rect width="5" height="5" style="fill: var(--{name})"/><path d="{path}" style="fill: none; '
        f'stroke: var(--card)" stroke-width="1" stroke-linecap="round"/></pattern>'
        for name, path in HATCHED.items()
    )
    return Markup(
        '<svg xmlns="http://www.w3.org/2000/svg" width="0" height="0" class="patterns" aria-hidden="true">'
        f"<defs>{patterns}</defs></svg>"
    )
