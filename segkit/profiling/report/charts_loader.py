"""Charts of the differential analysis: rates and stalls with intervals, and the worker curve."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from segkit.profiling.report import svg, words
from segkit.profiling.report.colours import light
from segkit.profiling.summary import Interval, WorkerPoint

_LOOKS = (
    ("first", "o", "●"),
    ("second", "s", "■"),
    ("third", "D", "◆"),
)  # colour, matplotlib's marker, the same as text


def intervals(rows: Sequence[tuple[str, Interval, str]], axis: str, *, percent: bool = False) -> Figure:
    """One bar a row with its value above and its 95 % interval as a whisker. A row: name, figure, colour's name."""
    figure, axes = svg.new(44 * len(rows) + 44, left=18, right=18, top=6, bottom=38)
    for index, (name, found, colour) in enumerate(rows):
        axes.barh(index, found.value, height=0.34, linewidth=0, **svg.fill(colour))
        if found.low is not None and found.high is not None:
            sides = [[side] for side in _sides(found)]
            axes.errorbar(found.value, index, xerr=sides, color=light("ink"), capsize=4, elinewidth=1.4, capthick=1.4)
        said = words.interval(found, words.share if percent else words.number)
        axes.text(0, index - 0.24, f"{name}: {said}", fontsize=11, va="bottom")
    ends = [end for _, found, _ in rows for end in (found.value, found.low, found.high) if end is not None]
    axes.set_xlim(1.04 * min([0.0, *ends]), 1.04 * max([0.01, *ends]))
    axes.set_ylim(len(rows) - 0.6, -0.75)
    axes.set_yticks([])
    axes.grid(True, axis="x")
    axes.grid(False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(axis)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    if percent:
        svg.per_cent(axes.xaxis)
    return figure


def _sides(found: Interval) -> tuple[float, float]:
    """How far the interval reaches below and above the value; 0 where it is not known."""
    below = found.value - found.low if found.low is not None else 0.0
    above = found.high - found.value if found.high is not None else 0.0
    return max(0.0, below), max(0.0, above)


def loaders(curve: Sequence[WorkerPoint]) -> list[tuple[str, tuple[str, str]]]:
    """The loaders of a curve, each with its colour's name and its marker as a letter."""
    names = dict.fromkeys(point.loader for point in curve)
    return [(name, (colour, letter)) for name, (colour, _, letter) in zip(names, cycle(_LOOKS), strict=False)]


def worker_curve(curve: Sequence[WorkerPoint], compute: Interval) -> Figure:
    """Rate against worker processes: measured (filled, whiskers), predicted (hollow), the chosen one ringed."""
    figure, axes = svg.new(240, left=48, top=14)
    for (loader, _), (colour, marker, _) in zip(loaders(curve), cycle(_LOOKS), strict=False):
        _loader(axes, [point for point in curve if point.loader == loader], light(colour), marker)
    axes.axhline(compute.value, color=light("compute"), linestyle=(0, (5, 3)), linewidth=1.3)
    place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "ha": "right"}
    axes.annotate("net alone", (1, compute.value), xytext=(0, 3), fontsize=10.5, **place)
    tops = [compute.high or compute.value]
    for point in curve:
        tops += [
            point.predicted or 0.0,
            *([point.images_per_s.value + _sides(point.images_per_s)[1]] if point.images_per_s else []),
        ]
    axes.set_ylim(0, 1.18 * max(tops) or 1.0)
    axes.set_xlim(-0.5, max(point.workers for point in curve) + 0.7)
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True, min_n_ticks=1))
    axes.set_xlabel("worker processes")
    axes.set_ylabel("images/s")
    return figure


def _loader(axes: Axes, points: list[WorkerPoint], colour: str, marker: str) -> None:
    """One loader's points."""
    points = sorted(points, key=lambda point: point.workers)
    predicted = [(p.workers, p.predicted) for p in points if p.predicted is not None]
    if predicted:
        axes.plot(
            *zip(*predicted, strict=True), marker, color=colour, mfc=light("card"), mew=1.4, ms=8, linestyle="none"
        )
    measured = [(p.workers, p.images_per_s) for p in points if p.images_per_s is not None]
    if measured:
        below, above = zip(*(_sides(found) for _, found in measured), strict=True)
        x, y = [workers for workers, _ in measured], [found.value for _, found in measured]
        axes.errorbar(x, y, yerr=[below, above], color=colour, marker=marker, ms=5, capsize=3, linewidth=1.4)
    for point in points:
        if point.chosen:
            axes.plot([point.workers], [_height(point)], "o", ms=16, mfc="none", mec=light("ink"), mew=1.3)
            at = (point.workers, _height(point))
            place: dict[str, Any] = {"xytext": (0, -13), "textcoords": "offset points", "ha": "center", "va": "top"}
            axes.annotate("chosen", at, fontsize=10.5, **place)


def _height(point: WorkerPoint) -> float:
    return point.images_per_s.value if point.images_per_s else point.predicted or 0.0
