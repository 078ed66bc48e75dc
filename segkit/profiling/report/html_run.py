"""One run's part of the page, from the verdict to the settings."""

from __future__ import annotations

from segkit.profiling.meaning import METRICS
from segkit.profiling.report import blocks, sentences, tables
from segkit.profiling.report.charts_loader import intervals, loaders, worker_curve
from segkit.profiling.report.charts_parts import REST, rank_rows, run_rows, stacked, stalls_by_epoch
from segkit.profiling.report.charts_time import TimeChart, gpu_charts, host_charts, over_time
from segkit.profiling.report.colours import ordered
from segkit.profiling.report.markup import Markup, el, joined
from segkit.profiling.summary import RunSummary


def run_section(summary: RunSummary, charts: blocks.Charts) -> Markup:
    """Verdict first, then what it rests on."""
    sections = (_parts, _differential, _gpu, _host, _ranks, _energy, _missing, _settings)
    return joined(
        blocks.verdict(summary), blocks.key_figures(summary), [section(summary, charts) for section in sections]
    )


def _parts(summary: RunSummary, charts: blocks.Charts) -> Markup | None:
    table = blocks.table(tables.parts(summary))
    if table is None:
        return None
    legend = blocks.parts_legend([part for part, _ in ordered(summary.parts)])
    title = "The time by part" + (", mean over ranks" if len(summary.ranks) > 1 else "")
    whole = charts(stacked(run_rows(summary), "share of the time", percent=True), title, legend=legend)
    return joined(
        el("h3", "Where the time went"),
        blocks.grid(whole, _stalls(summary, charts)),
        table,
        _paragraph(sentences.hidden_wait(summary)),
        blocks.folded("Figures of each epoch", blocks.table(tables.epochs(summary))) if summary.epochs else None,
    )


def _stalls(summary: RunSummary, charts: blocks.Charts) -> Markup | None:
    if len(summary.epochs) < 2:
        return None
    drawing, parts = stalls_by_epoch(summary.epochs)
    caption = "Share of each epoch in which the device had nothing to do, by cause."
    if not parts:
        return None
    return charts(drawing, "Stall share by epoch", [caption], blocks.parts_legend(parts))


def _differential(summary: RunSummary, charts: blocks.Charts) -> Markup | None:
    found = summary.differential
    if found is None:
        return None
    stalls = found.stalls
    rates = [("net alone", stalls.compute, "compute"), ("pipeline, warm files", stalls.warm, "first")]
    rates += [("pipeline, cold files", stalls.cold, "second")] if stalls.cold else []
    shares = [("prep stall", stalls.prep_stall, "starved")]
    shares += [("fetch stall", stalls.fetch_stall, "second")] if stalls.fetch_stall else []
    shares += [("copy share", stalls.copy_share, "copy")] if stalls.copy_share else []
    return joined(
        el("h3", "What the loader costs"),
        el(
            "p",
            "The same step was timed with less and less of the pipeline; the differences are what each stage costs.",
        ),
        blocks.grid(
            charts(intervals(rates, "images/s"), "Rates", ["Whiskers: 95 % intervals."]),
            charts(
                intervals(shares, "share of the time", percent=True),
                "Lost to each stage",
                ["Whiskers: 95 % intervals."],
            ),
            _worker_curve(summary, charts),
        ),
        blocks.table(tables.stalls(summary)),
        el("ul", [el("li", note) for note in stalls.notes], class_="note") if stalls.notes else None,
        _paragraph(sentences.verification(summary)),
        blocks.folded("Figures of each worker count", blocks.table(tables.workers(summary))) if found.curve else None,
    )


def _worker_curve(summary: RunSummary, charts: blocks.Charts) -> Markup | None:
    found = summary.differential
    if found is None or not found.curve:
        return None
    caption = "Filled points with whiskers: measured, with 95 % intervals. Hollow points: predicted. Ring: the choice."
    return charts(
        worker_curve(found.curve, found.stalls.compute),
        "Rate by worker processes",
        [caption],
        blocks.markers_legend(loaders(found.curve)),
    )


def _gpu(summary: RunSummary, charts: blocks.Charts) -> Markup | None:
    table = blocks.table(tables.devices(summary))
    if table is None:
        return None
    pictures = [_over_time(chart, summary, charts, len(summary.devices), "GPU") for chart in gpu_charts(summary)]
    return joined(el("h3", "The GPUs over time"), blocks.grid(*pictures), table)


def _host(summary: RunSummary, charts: blocks.Charts) -> Markup | None:
    table = blocks.table(tables.hosts(summary))
    if table is None:
        return None
    pictures = [_over_time(chart, summary, charts, len(summary.hosts), "node") for chart in host_charts(summary)]
    return joined(el("h3", "The CPUs and the storage over time"), blocks.grid(*pictures), table)


def _over_time(chart: TimeChart, summary: RunSummary, charts: blocks.Charts, several: int, thing: str) -> Markup:
    """The chart with what each of its lines means."""
    said = [METRICS[curve.key] for curve in chart.curves]
    spread = len(chart.curves) == 1 and chart.curves[0].line.spread
    how = [f"Line: mean of {several} {thing}s."] if several > 1 else ["Line: mean."] if spread else []
    how += ["Band: from the lowest to the highest sample."] if spread else []
    legend = blocks.lines_legend([(curve.label, curve.colour) for curve in chart.curves])
    return charts(over_time(chart, summary), chart.title, [*said, " ".join(how)], legend)


def _ranks(summary: RunSummary, charts: blocks.Charts) -> Markup | None:
    if len(summary.ranks) < 2:
        return None
    rows = rank_rows(summary)
    parts = [part for part in ("compute", "starved", "copy", "sync", REST) if any(v.get(part) for _, v in rows)]
    caption = f"The {len(rows)} ranks that cost the others the most." if len(rows) < len(summary.ranks) else ""
    return joined(
        el("h3", "The ranks"),
        _paragraph(sentences.straggler(summary)),
        blocks.grid(
            charts(
                stacked(rows, "milliseconds of a step"), "A step on each rank", [caption], blocks.parts_legend(parts)
            )
        ),
        blocks.table(tables.ranks(summary)),
    )


def _energy(summary: RunSummary, charts: blocks.Charts) -> Markup | None:
    said = sentences.energy(summary)
    return joined(el("h3", "Energy"), el("p", said)) if said else None


def _missing(summary: RunSummary, charts: blocks.Charts) -> Markup | None:
    table = blocks.table(tables.missing(summary))
    return joined(el("h3", "What is missing, and why"), table) if table else None


def _settings(summary: RunSummary, charts: blocks.Charts) -> Markup:
    return joined(el("h3", "Settings"), blocks.table(tables.settings(summary)))


def _paragraph(said: str) -> Markup | None:
    return el("p", blocks.prose(said)) if said else None
