"""The comparison's pictures: training time, the ablation as a waterfall, accuracy against cost, scaling."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from segkit.bench.comparison import CellResult
from segkit.bench.gains import Ablation, is_clear
from segkit.bench.pareto import Trade
from segkit.bench.scaling import Curve
from segkit.bench.words import setting
from segkit.profiling.report import svg, words
from segkit.profiling.report.colours import light
from segkit.profiling.summary import Interval

LOOKS = (("first", "o"), ("starved", "s"), ("validate", "D"), ("sync", "^"), ("compute", "v"), ("third", "P"))
_DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))


def training_time(cells: Sequence[CellResult], name: Callable[[CellResult], str]) -> Figure:
    """Time of an epoch against workers, a line for each number of ranks (and what else differs)."""
    lines: dict[tuple[int, str], list[CellResult]] = {}
    for cell in cells:
        lines.setdefault((cell.ranks, name(cell)), []).append(cell)
    figure, axes = svg.new(250 + 14 * len(lines), left=48, top=14 + 14 * len(lines))
    ranks, rest = ([*dict.fromkeys(key[i] for key in sorted(lines))] for i in (0, 1))
    tops = [0.0]
    for (count, other), group in sorted(lines.items()):
        colour, marker = LOOKS[ranks.index(count) % len(LOOKS)]
        group = sorted((c for c in group if c.epoch), key=lambda cell: cell.workers)
        called = ", ".join(filter(None, (setting("gpus", count), other)))
        _errors(axes, [c.workers for c in group], [c.epoch for c in group if c.epoch], colour, marker, called,
                _DASHES[rest.index(other) % len(_DASHES)])  # fmt: skip
        tops += [end for c in group if c.epoch for end in (c.epoch.value, min(c.epoch.high or 0, 2 * c.epoch.value))]
    axes.set_ylim(0, 1.1 * max(tops) or 1)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.set_xlim(min(c.workers for c in cells) - 0.3, max(c.workers for c in cells) + 0.3)
    axes.set_xlabel("worker processes a rank")
    axes.set_ylabel("seconds an epoch")
    _legend_above(axes)
    return figure


def _errors(
    axes: Axes, x: Sequence[float], found: Sequence[Interval], colour: str, marker: str, label: str, dash: Any = "-"
) -> None:
    below = [max(0.0, one.value - (one.value if one.low is None else one.low)) for one in found]
    above = [max(0.0, (one.value if one.high is None else one.high) - one.value) for one in found]
    style: dict[str, Any] = {"color": light(colour), "marker": marker, "ms": 5, "capsize": 3, "linewidth": 1.4}
    axes.errorbar(x, [one.value for one in found], yerr=[below, above], label=label, linestyle=dash, **style)


def _legend_above(axes: Axes) -> None:
    """Names above the axes, where no line is."""
    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > 1:
        place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (-0.08, 1.0), "borderaxespad": 0.2}
        axes.legend(handles, labels, frameon=False, fontsize=10.5, labelspacing=0.25, **place)


def waterfall(found: Ablation) -> Figure:
    """images/s from the plain loop to the full set; what each technique adds or takes, in order."""
    steps: list[tuple[str, Interval | None, Interval | None]] = [
        ("plain loop", found.plain.rate if found.plain else None, None)
    ]
    steps += [(f"+ {gain.name}", gain.after.rate if gain.after else None, gain.added) for gain in found.gains]
    figure, axes = svg.new(34 * (len(steps) + 1) + 46, left=18, right=18, top=4, bottom=38)
    before, reach = 0.0, 0.01
    for index, (name, rate, ratio) in enumerate(steps):
        value = rate.value if rate else before
        colour = "other" if not index or not is_clear(ratio) else "validate" if value >= before else "starved"
        start = before if index else 0.0
        axes.barh(index, value - start, left=start, height=0.4, linewidth=0, **svg.fill(colour))
        if rate is not None and rate.low is not None and rate.high is not None:
            sides = [[max(0.0, value - rate.low)], [max(0.0, rate.high - value)]]
            axes.errorbar(value, index, xerr=sides, color=light("ink"), capsize=3, elinewidth=1.1, capthick=1.1)
        said = words.number(rate.value) if rate else "failed"
        more = f" (× {words.interval(ratio)})" if ratio else ""
        axes.text(0, index - 0.24, f"{name}: {said}{more}", fontsize=10.5, va="bottom")
        before = value
        reach = max(reach, value, rate.high or 0.0 if rate else 0.0)
    axes.set_xlim(0, 1.04 * reach)
    _only_across(axes, len(steps))
    axes.set_xlabel("images/s")
    return figure


def _only_across(axes: Axes, rows: int) -> None:
    axes.set_ylim(rows - 0.6, -0.8)
    axes.set_yticks([])
    axes.grid(True, axis="x")
    axes.grid(False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(6))


def trade_off(trades: Sequence[Trade], axis: str) -> Figure:
    """Test Dice against a cost: the Pareto front filled and joined, the rest hollow."""
    figure, axes = svg.new(250 + 14 * len(trades), left=52, top=14 + 14 * len(trades))
    front = sorted((t for t in trades if t.on_front), key=lambda t: t.cost)
    axes.plot([t.cost for t in front], [t.dice.value for t in front], color=light("muted"), linewidth=1.2, zorder=1)
    for trade, (colour, marker) in zip(trades, _looks(), strict=False):
        face = light(colour) if trade.on_front else light("card")
        axes.plot([trade.cost], [trade.dice.value], marker, ms=9, mec=light(colour), mfc=face, mew=1.6,
                  label=f"{trade.name}{' (on the front)' if trade.on_front else ''}")  # fmt: skip
    _room(axes, [t.cost for t in trades], "x")
    _room(axes, [t.dice.value for t in trades], "y")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel(axis)
    axes.set_ylabel("test Dice, mean of patients")
    _legend_above(axes)
    return figure


def _looks() -> Iterator[tuple[str, str]]:
    """Colours with markers; each pair comes once before one comes again."""
    count = len(LOOKS)
    return cycle([(LOOKS[i][0], LOOKS[(i + turn) % count][1]) for turn in range(count) for i in range(count)])


def _room(axes: Axes, values: Sequence[float], which: str) -> None:
    low, high = min(values), max(values)
    margin = 0.12 * (high - low) or 0.1 * abs(high) or 0.1
    (axes.set_xlim if which == "x" else axes.set_ylim)(low - margin, high + margin)


def scaling(curve: Curve) -> Figure:
    """images/s against ranks: measured (filled), by the fit (line), predicted (hollow, dashed), and the ideal."""
    figure, axes = svg.new(310, left=52, top=72)
    fitted = [p for p in curve.points if not p.predicted]
    beyond = [p for p in curve.points if p.predicted]
    _errors(axes, [p.ranks for p in fitted], [p.measured for p in fitted if p.measured], "first", "o", "measured", "")
    line = [p for p in curve.points if p.ranks <= max((q.ranks for q in fitted), default=0)]
    axes.plot([p.ranks for p in line], [p.modelled.value for p in line], color=light("compute"), label="fit")
    last = line[-1:]
    shown = [*last, *beyond]
    axes.plot(
        [p.ranks for p in shown], [p.modelled.value for p in shown], color=light("compute"), linestyle=(0, (4, 3))
    )
    if beyond:
        axes.fill_between(
            [p.ranks for p in shown], [p.modelled.low or 0 for p in shown], [p.modelled.high or 0 for p in shown],
            color=light("compute"), alpha=0.15, linewidth=0,
        )  # fmt: skip
        axes.plot([p.ranks for p in beyond], [p.modelled.value for p in beyond], "o", ms=7, mew=1.5, linestyle="none",
                  mec=light("compute"), mfc=light("card"), label="predicted, not measured")  # fmt: skip
    first = curve.points[0]
    base = (first.measured or first.modelled).value / first.ranks
    ranks = np.array([p.ranks for p in curve.points])
    axes.plot(ranks, base * ranks, color=light("muted"), linewidth=1, linestyle=(0, (1, 2)), label="ideal")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    axes.set_xticks(list(ranks), minor=False)
    axes.set_xlabel("ranks (log scale)")
    axes.set_ylabel("images/s (log scale)")
    _legend_above(axes)
    return figure
