"""Charts over the time of a run, with the epochs marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from segkit.profiling.report import svg, words
from segkit.profiling.report.colours import light
from segkit.profiling.report.series import Line, line
from segkit.profiling.summary import RunSummary

MOST_MARKS = 12  # epochs marked in a chart
_EVERY = [digit * 10**power for power in range(8) for digit in (1, 2, 5)]
DASHES: tuple[str | tuple[int, tuple[int, ...]], ...] = ("-", (0, (5, 2)), (0, (1, 1)))


@dataclass(frozen=True)
class Curve:
    """A line in a chart: the samples' field that it shows, its name, its colour's name and its values."""

    key: str
    label: str
    colour: str
    line: Line


@dataclass(frozen=True)
class TimeChart:
    """What a chart over time needs; `unit` is "share" for shares, else the text on the axis."""

    title: str
    unit: str
    curves: list[Curve]
    limit: float | None = None  # a dashed line: the device's memory, its power limit, the CPUs granted
    limit_label: str = ""


def gpu_charts(summary: RunSummary) -> list[TimeChart]:
    """Utilisation, activity, memory and power, less those that nothing was measured for."""
    several = [device.series for device in summary.devices if device.series.get("t")]
    start = beginning(summary)
    activity = (("sm", "SM", "first"), ("tensor", "tensor cores", "second"), ("dram", "DRAM", "third"))
    limits = [device.info.power_limit for device in summary.devices]
    totals = [device.info.memory_total for device in summary.devices]
    memory = _curves(several, start, ("memory", "memory", "first"), scale=2**-30)
    power = _curves(several, start, ("power", "power", "first"))
    return _with_curves(
        TimeChart("GPU utilisation", "share", _curves(several, start, ("util", "utilisation", "first"))),
        TimeChart("SM, tensor core and DRAM activity", "share", _curves(several, start, *activity)),
        TimeChart("GPU memory in use", "GiB", memory, _same(totals, 2**-30), "the GPU's memory"),
        TimeChart("GPU power", "W", power, _same(limits), "power limit"),
    )


def host_charts(summary: RunSummary) -> list[TimeChart]:
    """CPUs, storage and memory of the nodes."""
    several = [host.series for host in summary.hosts if host.series.get("t")]
    start = beginning(summary)
    own, started = words.processes(timed=bool(summary.steps))
    used = [("cpu_main", own, "first"), ("cpu_workers", started, "second")]
    if all(host.machine_cpus == host.cpus for host in summary.hosts):  # elsewhere others have CPUs of their own
        used.append(("cpu_machine", "all programs", "third"))
    granted = _same([host.cpus for host in summary.hosts])
    read = _curves(several, start, ("read", "read", "first"), scale=1e-6)
    waiting = _curves(several, start, ("io_wait", "waiting", "first"))
    memory = _curves(several, start, ("rss", "memory", "first"), scale=2**-30)
    return _with_curves(
        TimeChart("CPUs used on a node", "CPUs", _curves(several, start, *used), granted, "CPUs granted"),
        TimeChart("Read from storage", "MB/s", read),
        TimeChart("Time spent waiting for storage", "share", waiting),
        TimeChart("Host memory in use", "GiB", memory),
    )


def beginning(summary: RunSummary) -> float:
    """The Unix time that the charts count from: the run's first step or, where it was earlier, the first sample."""
    sampled = [each.series for each in summary.devices] + [each.series for each in summary.hosts]
    firsts = [series["t"][0] for series in sampled if series.get("t")]
    given = [summary.started, *(epoch.t for epoch in summary.epochs[:1]), *firsts]
    return min((t for t in given if t is not None), default=0.0)


def over_time(chart: TimeChart, summary: RunSummary) -> Figure:
    """Mean line with a band from the lowest to the highest, epochs as thin vertical lines."""
    figure, axes = svg.new(196, left=46, top=20)
    before = summary.started - beginning(summary) if summary.started is not None else 0.0  # the first step
    end = max([before + summary.seconds, *(float(curve.line.t[-1]) for curve in chart.curves)])
    alone = len(chart.curves) == 1
    for curve, dash in zip(chart.curves, DASHES, strict=False):
        found, colour = curve.line, light(curve.colour)
        if alone and found.spread:
            axes.fill_between(found.t, found.low, found.high, color=colour, alpha=0.22, lw=0)
        marker = "o" if len(found.t) == 1 else None
        axes.plot(found.t, found.mean, color=colour, linestyle=dash, marker=marker, clip_on=False)
    highest = max(float(np.nanmax(c.line.high if alone else c.line.mean)) for c in chart.curves)
    _limit(axes, chart, highest)
    if chart.unit == "share":
        axes.set_ylim(0, 1.03 if highest > 0.25 else max(0.05, 1.2 * highest))
        svg.per_cent(axes.yaxis)
    else:
        axes.set_ylabel(chart.unit)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlim(0, end or 1.0)
    _time_axis(axes, end)
    _epochs(axes, summary, end)
    return figure


def _curves(
    several: Sequence[dict[str, list[float | None]]], start: float, *wanted: tuple[str, str, str], scale: float = 1.0
) -> list[Curve]:
    found = [(key, label, colour, line(several, key, start, scale)) for key, label, colour in wanted]
    return [Curve(key, label, colour, each) for key, label, colour, each in found if each is not None]


def _with_curves(*charts: TimeChart) -> list[TimeChart]:
    return [chart for chart in charts if chart.curves]


def _same(values: Sequence[float | None], scale: float = 1.0) -> float | None:
    """The value that all devices share, scaled; None where they differ or have none."""
    return values[0] * scale if len(set(values)) == 1 and values[0] else None


def _limit(axes: Axes, chart: TimeChart, highest: float) -> None:
    if chart.unit == "share":
        return
    top = highest
    if chart.limit is not None and highest > 0.2 * chart.limit:
        top = max(highest, chart.limit)
        axes.axhline(chart.limit, color=light("muted"), linestyle=(0, (4, 3)), lw=1)
        said = f"{chart.limit_label}: {chart.limit:.4g}"
        place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "xytext": (0, 3), "ha": "right", "va": "bottom"}
        place |= {"textcoords": "offset points", "fontsize": 10.5, "color": light("muted")}
        axes.annotate(said, (1, chart.limit), **place)
    axes.set_ylim(0, 1.18 * top if top > 0 else 1.0)


def _time_axis(axes: Axes, end: float) -> None:
    units = ((3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))
    scale, unit = next((pair for pair in units if end >= 2 * pair[0]), units[-1])
    step = MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(0, (end or 1.0) / scale)
    axes.set_xticks([tick * scale for tick in step if 0 <= tick * scale <= (end or 1.0)])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / scale:g}"))
    axes.set_xlabel(f"{unit} since the beginning")


def _epochs(axes: Axes, summary: RunSummary, end: float) -> None:
    """A thin line where an epoch begins, its number (from 1) above where it has room; of many epochs every n-th."""
    every = next(n for n in _EVERY if len(summary.epochs) <= n * MOST_MARKS)
    start = beginning(summary)
    free = 0.0  # from where on, as a share of the width, a number has room
    for index, epoch in enumerate(summary.epochs):
        if index and (epoch.epoch + 1) % every:
            continue
        at = min(max(epoch.t - start, 0.0), end)
        axes.axvline(at, color=light("muted"), lw=0.8, alpha=0.6, linestyle=(0, (2, 2)))
        said = str(epoch.epoch + 1) if index else f"epoch {epoch.epoch + 1}"
        share = at / end if end else 0.0
        if free <= share < 0.97:
            place: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
            axes.annotate(said, (at, 1.0), xytext=(1, 3), fontsize=10, color=light("muted"), **place)
            free = share + (6 * len(said) + 4) / svg.WIDTH
