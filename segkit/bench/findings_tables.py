"""Every comparison that the findings rest on, as tables: over ranks, and over workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from segkit.bench.comparison import Comparison
from segkit.bench.findings import AGREES, DIFFERS, UNCLEAR, Answer, Finding
from segkit.bench.values import shown
from segkit.bench.words import net, setting
from segkit.profiling.report import words
from segkit.profiling.report.tables import Table

_SHORT = {AGREES: "yes", DIFFERS: "no", UNCLEAR: "unclear"}
_NAMES = {"gpus": "ranks", "model": "net"}
_NOTE = (
    "Seconds of an epoch's training. last / first: time at the last number over that at the first, without starting "
    "the workers; it has an interval only where repeats tell the noise. "
)


def tables(comparison: Comparison, findings: Sequence[Finding]) -> Iterator[Table]:
    """One over ranks with what findings 1 to 3 say of each row, one over workers with the 4th's."""
    every, halves, _, rises = findings
    found = {answer.subject: _SHORT[answer.agrees] for answer in halves.answers}
    if every.answers:
        note = _NOTE + "falls: findings 1 and 3. halves: finding 2, asked of 0 workers."
        more = {
            "falls": [_SHORT[a.agrees] for a in every.answers],
            "halves": [found.get(a.subject, "") for a in every.answers],
        }
        yield _table(comparison, every.answers, more, note)
    if rises.answers:
        more = {"rises": [_SHORT[a.agrees] for a in rises.answers]}
        yield _table(comparison, rises.answers, more, _NOTE + "rises: finding 4.")


def _table(comparison: Comparison, answers: Sequence[Answer], verdicts: dict[str, list[str]], note: str) -> Table:
    key = answers[0].key
    axes = [axis for axis in comparison.axes if axis != key]
    values = sorted({int(cell.cell.value(key)) for answer in answers for cell in answer.group})
    rows = []
    for index, answer in enumerate(answers):
        there = {int(cell.cell.value(key)): words.interval(cell.epoch) for cell in answer.group}
        times = [there.get(value, words.NONE) for value in values]
        named = [_value(answer, axis) for axis in axes]
        rows.append([*named, *times, words.interval(answer.ratio), *(said[index] for said in verdicts.values())])
    named = [_NAMES.get(axis, axis.replace("_", " ")) for axis in axes]
    head = [*named, *(setting(key, value) for value in values), "last / first", *verdicts]
    align = "l" * len(axes) + "r" * (len(values) + 1) + "l" * len(verdicts)
    return Table(head, align, rows, note).without_empty_columns()


def _value(answer: Answer, axis: str) -> str:
    value = answer.group[0].cell.value(axis)
    return net(value) if axis == "model" else shown(value)
