"""The report for a terminal: plain text within 100 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from segkit.profiling.report import compare, sentences, tables, words
from segkit.profiling.report.tables import Table
from segkit.profiling.summary import RunSummary

WIDTH = 100
_BAR = 30
_SHORTEST = 8  # to which a column of words is cut at most


def to_text(summaries: Sequence[RunSummary], *, bold: bool = False) -> str:
    """The runs one after another, with several a comparison first. `bold`: mark headings with ANSI codes."""
    names = compare.names(summaries)
    blocks = [_comparison(summaries, bold)] if len(summaries) > 1 else []
    blocks += [_run(name, summary, bold) for name, summary in zip(names, summaries, strict=True)]
    return "\n\n".join(blocks) + "\n"


def aligned(table: Table, indent: str = "  ") -> str:
    """A table as aligned columns; where it is too wide, the longest columns of words are cut, but for their heads."""
    rows = [[words.one_line(cell) for cell in row] for row in [table.head, *table.rows]]
    widths = [max(len(row[i]) for row in rows) for i in range(len(table.head))]
    room = WIDTH - len(indent) - 2 * (len(widths) - 1)
    least = [max(_SHORTEST, len(head)) for head in rows[0]]
    while sum(widths) > room:
        longer = [i for i, side in enumerate(table.align) if side == "l" and widths[i] > least[i]]
        if not longer:
            break
        widths[max(longer, key=lambda i: widths[i])] -= 1
    return "\n".join(_line(row, table.align, widths, indent) for row in rows)


def _line(row: Sequence[str], align: str, widths: Sequence[int], indent: str) -> str:
    cells = [words.one_line(cell, max(width, 1)) for cell, width in zip(row, widths, strict=True)]
    sides = [">" if side == "r" else "<" for side in align]
    placed = (f"{cell:{side}{width}}" for cell, side, width in zip(cells, sides, widths, strict=True))
    return (indent + "  ".join(placed)).rstrip()


def _comparison(summaries: Sequence[RunSummary], bold: bool) -> str:
    """The verdicts line by line, which have no room in a column; then the table less that column."""
    table = compare.comparison(summaries)
    short = {"against the first": "vs 1st", "GPU util.": "util"}
    kept = [i for i, name in enumerate(table.head) if name != "verdict"]
    head = [short.get(table.head[i], table.head[i]) for i in kept]
    figures = Table(head, "".join(table.align[i] for i in kept), [[row[i] for i in kept] for row in table.rows])
    named = zip(compare.names(summaries), summaries, strict=True)
    verdicts = [wrapped(f"{name}: {each.verdict.title}") for name, each in named if each.verdict]
    lines = [_heading(f"{len(summaries)} runs side by side", bold), *verdicts, "", aligned(figures)]
    return "\n".join([*lines, wrapped(table.note), wrapped(compare.sentence(summaries))])


def _run(name: str, summary: RunSummary, bold: bool) -> str:
    lines = [_heading(words.one_line(name, WIDTH), bold), *_wrapped_if(sentences.extent(summary)), ""]
    lines += _verdict(summary, bold)
    shown = [(label, value) for label, value in tables.figures(summary) if value != words.NONE]
    if shown:
        lines += ["", aligned(Table(["", ""], "ll", [list(pair) for pair in shown])).removeprefix("\n")]
    if summary.steps:
        lines += ["", _parts(summary), *_wrapped_if(sentences.hidden_wait(summary))]
    if len(summary.ranks) > 1:
        ranks = tables.ranks(summary, most=8)
        lines += ["", *_wrapped_if(sentences.straggler(summary)), aligned(_slim(ranks)), wrapped(ranks.note)]
    if summary.devices:
        lines += ["", aligned(_slim(tables.devices(summary)))]
    elif summary.hosts:
        lines += ["", aligned(_slim(tables.hosts(summary)))]
    if summary.differential:
        stalls = tables.stalls(summary)
        lines += ["", aligned(Table(stalls.head, stalls.align, stalls.rows)), aligned(tables.workers(summary))]
        lines += [wrapped(f"note: {note}") for note in summary.differential.stalls.notes]
        lines += _wrapped_if(sentences.verification(summary))
    lines += [wrapped(f"missing: {item.what}: {item.why}") for item in summary.missing]
    return "\n".join(lines)


def _verdict(summary: RunSummary, bold: bool) -> list[str]:
    found = summary.verdict
    if found is None:
        return [wrapped(sentences.NO_VERDICT)]
    lines = [_heading(found.title, bold), wrapped(found.sentence)]
    lines += [
        textwrap.fill(words.one_line(item), WIDTH, initial_indent="  - ", subsequent_indent="    ")
        for item in found.advice
    ]
    return [*lines, *_wrapped_if(found.sure)]


def _parts(summary: RunSummary) -> str:
    """The parts with a bar each."""
    table = tables.parts(summary)
    rows = []
    for row, part in zip(table.rows, table.keys, strict=True):
        rows.append([*row[:4], "█" * round(_BAR * summary.share(part))])
    return aligned(Table([*table.head[:4], ""], "lrrrl", rows))


def _slim(table: Table) -> Table:
    """Less columns until the table fits: those that a terminal's reader misses least go first."""
    for name in ("device", "hottest", "compute", "copy", "energy", "throttled", "sync"):
        if max(map(len, aligned(table).splitlines())) <= WIDTH and not _cut(table):
            break
        kept = [i for i, head in enumerate(table.head) if head != name]
        rows = [[row[i] for i in kept] for row in table.rows]
        table = Table([table.head[i] for i in kept], "".join(table.align[i] for i in kept), rows, table.note)
    return table


def _cut(table: Table) -> bool:
    return "…" in aligned(table)


def _heading(text: str, bold: bool) -> str:
    return f"\x1b[1m{words.one_line(text)}\x1b[0m" if bold else words.one_line(text)


def wrapped(text: str, indent: str = "") -> str:
    """A paragraph within the width; lines after the first are indented further."""
    more = indent + "  " if indent else ""
    return textwrap.fill(words.one_line(text), WIDTH, initial_indent=indent, subsequent_indent=more)


def _wrapped_if(text: str) -> list[str]:
    return [wrapped(text)] if text else []
