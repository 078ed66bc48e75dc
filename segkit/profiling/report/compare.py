"""Several runs side by side."""

from __future__ import annotations

from collections.abc import Sequence

from segkit.profiling.report import words
from segkit.profiling.report.tables import Table, mean, part_share, settings
from segkit.profiling.summary import RunSummary

_OF_EVERY_RUN = ("folder", "started")


def names(summaries: Sequence[RunSummary]) -> list[str]:
    """The runs' names, with a number where two are called alike."""
    plain = [words.one_line(summary.name) or "run" for summary in summaries]
    return [name if plain.count(name) == 1 else f"{name} ({i + 1})" for i, name in enumerate(plain)]


def comparison(summaries: Sequence[RunSummary]) -> Table:
    """One row a run."""
    head = ["run", "images/s", "against the first", "loader", "copy", "ranks", "GPU util.", "Wh/1,000", "verdict"]
    rows = []
    for name, summary in zip(names(summaries), summaries, strict=True):
        stalls = [words.share(part_share(summary, part)) for part in ("starved", "copy", "sync")]
        util = words.share(mean([device.util for device in summary.devices]))
        energy = words.number(summary.energy.wh_per_1000_images) if summary.energy else words.NONE
        verdict = summary.verdict.title if summary.verdict else words.NONE
        rate = words.interval(summary.images_per_s)
        rows.append([name, rate, _against(summary, summaries[0]), *stalls, util, energy, verdict])
    note = "loader, copy, ranks: share of the wall-clock time in which the device waited for them."
    if any(summary.energy for summary in summaries):
        note += " Wh/1,000: GPU energy for 1,000 images."
    return Table(head, "lrrrrrrrl", rows, note).without_empty_columns()


def sentence(summaries: Sequence[RunSummary]) -> str:
    """Which run is the fastest, and whether the intervals leave a doubt."""
    rated = [(s.images_per_s, n) for s, n in zip(summaries, names(summaries), strict=True) if s.images_per_s]
    if len(rated) < 2:
        return "There are too few rates to compare."
    (best, name), (second, other) = sorted(rated, key=lambda pair: -pair[0].value)[:2]
    if best.low is not None and second.high is not None and best.low <= second.high:
        rates = f"{words.interval(best)} and {words.interval(second)}"
        return f"{name} and {other} are the fastest, and their 95 % intervals overlap: {rates} images/s."
    said = f"{name} is the fastest with {words.number(best.value)} images/s"
    return f"{said}, {best.value / second.value:.2f} times the rate of {other}." if second.value else f"{said}."


def differences(summaries: Sequence[RunSummary]) -> Table:
    """The settings in which the runs differ, one row a setting."""
    each = [{row[0]: row[1] for row in settings(summary).rows} for summary in summaries]
    keys = dict.fromkeys(key for values in each for key in values if key not in _OF_EVERY_RUN)
    rows = [[key, *(values.get(key, words.NONE) for values in each)] for key in keys]
    rows = [row for row in rows if len(set(row[1:])) > 1]
    return Table(["setting", *names(summaries)], "l" * (1 + len(summaries)), rows)


def _against(summary: RunSummary, first: RunSummary) -> str:
    if summary is first or not summary.images_per_s or not first.images_per_s or not first.images_per_s.value:
        return words.NONE
    return f"× {summary.images_per_s.value / first.images_per_s.value:.2f}"
