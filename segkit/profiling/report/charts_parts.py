"""Charts of what time went to: parts as stacked bars, stalls by epoch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from segkit.profiling.report import svg, words
from segkit.profiling.report.colours import SHORT, STALLS, STEP_PARTS, ordered
from segkit.profiling.report.series import Floats
from segkit.profiling.summary import EpochSummary, RunSummary

REST = "the rest"  # of a rank's step: the optimiser, the host
MOST_EPOCHS = 400  # that a chart shows one by one; more are averaged
_BARS = 60  # epochs up to which each has a bar of its own, with a gap between
_ROW = 60  # height of a stacked bar with its name above and its labels below, in units
_LETTER = 5.6  # width of a small letter, in units


def stacked(rows: Sequence[tuple[str, dict[str, float]]], axis: str, *, percent: bool = False) -> Figure:
    """One bar a row, divided into parts, each labelled below where it has room. `axis` names the values."""
    figure, axes = svg.new(_ROW * len(rows) + 40, left=16, right=18, top=4, bottom=36)
    widest = max((sum(values.values()) for _, values in rows), default=0.0) or 1.0
    for index, (name, values) in enumerate(rows):
        axes.text(0, index - 0.18, words.one_line(name, 52), fontsize=11, va="bottom")
        at = 0.0
        for part, value in ordered(values):
            axes.barh(index, value, left=at, height=0.28, linewidth=0.8, **svg.fill(part))
            said = f"{100 * value:.0f} %" if percent else words.number(value)
            _segment_label(axes, (at, index), value, (svg.WIDTH - 34) / widest, (SHORT.get(part, part), said))
            at += value
    axes.set_xlim(0, widest)
    axes.set_ylim(len(rows) - 0.42, -0.42)
    axes.set_yticks([])
    axes.grid(False)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(axis)
    if percent:
        svg.per_cent(axes.xaxis)
    return figure


def _segment_label(axes: Axes, at: tuple[float, float], value: float, scale: float, lines: tuple[str, str]) -> None:
    """Two short lines under a segment that begins at `at`, where they have room; `scale`: units for one of `value`."""
    if value * scale >= _LETTER * max(map(len, lines)) + 2:
        axes.text(at[0] + value / 2, at[1] + 0.15, "\n".join(lines), fontsize=10, ha="center", va="top")


def run_rows(summary: RunSummary) -> list[tuple[str, dict[str, float]]]:
    """For `stacked`: shares of the whole run, and of a training step, which has no validation nor checkpoints."""
    step = {part: seconds for part, seconds in summary.parts.items() if part in STEP_PARTS}
    total = sum(step.values())
    rows = []
    if summary.seconds:
        shares = {part: seconds / summary.seconds for part, seconds in summary.parts.items()}
        rows.append((f"the whole run: {words.duration(summary.seconds)}", shares))
    if summary.steps and total:
        mean = words.milliseconds(total / summary.steps)
        rows.append((f"a training step: {mean}", {part: seconds / total for part, seconds in step.items()}))
    return rows


def rank_rows(summary: RunSummary, most: int = 16) -> list[tuple[str, dict[str, float]]]:
    """For `stacked`: milliseconds of a step by part, of the ranks that cost the others the most."""
    costly = sorted(summary.ranks, key=lambda rank: -(words.known(rank.cost_others_s) or 0.0))[:most]
    rows = []
    for rank in sorted(costly, key=lambda rank: rank.rank):
        seconds = {"compute": rank.compute_s, "starved": rank.starved_s, "copy": rank.copy_s, "sync": rank.sync_s}
        values = {part: 1000 * value for part, value in seconds.items() if value is not None and value > 0}
        values[REST] = max(0.0, 1000 * rank.step_s - sum(values.values()))
        rows.append((f"rank {rank.rank} on {rank.host}", values))
    return rows


def stalls_by_epoch(epochs: Sequence[EpochSummary]) -> tuple[Figure, list[str]]:
    """Share of each epoch in which the device waited, stacked; and the parts that occur, from the bottom."""
    parts = [part for part in STALLS if any(epoch.shares.get(part) for epoch in epochs)]
    x, shares = _averaged(epochs, parts)
    figure, axes = svg.new(190, left=44)
    bottom = np.zeros(len(x))
    for part, values in zip(parts, shares, strict=True):
        if len(x) <= _BARS:
            axes.bar(x, values, 0.86, bottom, linewidth=0.5, **svg.fill(part))
        else:
            axes.fill_between(x, bottom, bottom + values, step="mid", linewidth=0, **svg.fill(part))
        bottom = bottom + values
    axes.set_xlim(x[0] - 0.6, x[-1] + 0.6)
    axes.set_ylim(0, max(0.05, min(1.0, 1.12 * float(bottom.max(initial=0.0)))))
    svg.per_cent(axes.yaxis)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.set_xlabel("epoch")
    return figure, parts


def _averaged(epochs: Sequence[EpochSummary], parts: Sequence[str]) -> tuple[Floats, list[Floats]]:
    """Epochs (from 1) and their shares; of more than MOST_EPOCHS, means of groups, weighed by their time."""
    index = np.arange(len(epochs)) // -(-len(epochs) // MOST_EPOCHS)
    seconds = np.array([max(epoch.seconds, 1e-9) for epoch in epochs])
    x = np.bincount(index, weights=[epoch.epoch + 1 for epoch in epochs]) / np.bincount(index)
    shares = [np.array([epoch.shares.get(part, 0.0) for epoch in epochs]) for part in parts]
    total = np.bincount(index, weights=seconds)
    return x, [np.bincount(index, weights=values * seconds) / total for values in shares]
