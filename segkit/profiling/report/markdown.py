"""The report as GitHub-flavoured Markdown, for a pull request: verdict first, tables, long ones folded."""

from __future__ import annotations

import re
from collections.abc import Sequence

from segkit.profiling.report import compare, sentences, tables, words
from segkit.profiling.report.tables import Table
from segkit.profiling.summary import RunSummary


def to_markdown(summaries: Sequence[RunSummary]) -> str:
    """The runs one after another, with several a comparison first."""
    names = compare.names(summaries)
    if len(summaries) == 1:
        parts = [f"## {plain(names[0])}: profile", *_run(summaries[0])]
        return "\n\n".join(parts) + "\n"
    parts = [f"## {len(summaries)} runs side by side", plain(compare.sentence(summaries))]
    parts += [table(compare.comparison(summaries))]
    differences = compare.differences(summaries)
    if differences.rows:
        parts += [folded("Settings in which they differ", table(differences))]
    for name, summary in zip(names, summaries, strict=True):
        parts += [f"### {plain(name)}", *_run(summary)]
    return "\n\n".join(parts) + "\n"


def plain(value: object) -> str:
    """Text that cannot break a table, start markup or call people: runs and hosts are named by others."""
    return _escaped(words.one_line(value))


def prose(said: str) -> str:
    """A sentence, with what stands between backticks left as code."""
    pieces = words.one_line(said).split("`")
    if len(pieces) % 2 == 0 or "" in pieces[1::2]:
        return plain(said)
    return "".join(f"`{piece}`" if i % 2 else _escaped(piece) for i, piece in enumerate(pieces))


def _escaped(text: str) -> str:
    escaped = re.sub(r"([\\`*_{}\[\]<>|#~&$!])", r"\\\1", text)
    return escaped.replace("@", "@\u200b").replace("://", ":\u200b//")


def table(found: Table) -> str:
    """A table with its note."""
    rule = ["---:" if side == "r" else "---" for side in found.align]
    head, rows = [plain(cell) for cell in found.head], [[plain(cell) for cell in row] for row in found.rows]
    lines = ["| " + " | ".join(cells) + " |" for cells in [head, rule, *rows]]
    return "\n".join(lines) + (f"\n\n{plain(found.note)}" if found.note else "")


def folded(title: str, inside: str) -> str:
    """Something that a reader opens."""
    return f"<details><summary>{title}</summary>\n\n{inside}\n\n</details>"


def _run(summary: RunSummary) -> list[str]:
    said = [*_verdict(summary), plain(sentences.extent(summary))]
    shown = [list(pair) for pair in tables.figures(summary) if pair[1] != words.NONE]
    said += [table(Table(["figure", "value"], "lr", shown))] if shown else []
    if summary.parts:
        said.append(table(tables.parts(summary)))
    said.append(plain(sentences.hidden_wait(summary)))
    if len(summary.ranks) > 1:
        said += [plain(sentences.straggler(summary)), folded("Ranks", table(tables.ranks(summary, most=64)))]
    if summary.differential:
        said += [table(tables.stalls(summary)), plain(sentences.verification(summary))]
        said += ["\n".join(f"- {plain(note)}" for note in summary.differential.stalls.notes)]
        said += [folded("Worker counts", table(tables.workers(summary)))] if summary.differential.curve else []
    said += [folded(name, table(found)) for name, found in _folded(summary) if found.rows]
    return [part for part in said if part]


def _verdict(summary: RunSummary) -> list[str]:
    found = summary.verdict
    if found is None:
        return [sentences.NO_VERDICT]
    advice = "\n".join(f"{i}. {prose(item)}" for i, item in enumerate(found.advice, 1))
    return [f"**{plain(found.title)}**", prose(found.sentence), advice, prose(found.sure)]


def _folded(summary: RunSummary) -> list[tuple[str, Table]]:
    return [
        ("GPUs", tables.devices(summary)),
        ("Hosts", tables.hosts(summary)),
        ("Epochs", tables.epochs(summary, most=50)),
        ("Missing", tables.missing(summary)),
        ("Settings", tables.settings(summary)),
    ]
