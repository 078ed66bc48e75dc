"""Whether a machine agrees with the four findings of the study that this comparison repeats, and why.

The study trained FCN, U-Net and SegNet on the LGG slices with DistributedDataParallel on 1, 2 and 4 GPUs and several
worker counts. Each finding is asked of every net (and loader, ...) by itself, on the time of an epoch.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from segkit.bench.comparison import CellResult, Comparison
from segkit.bench.words import setting
from segkit.config import Value
from segkit.profiling.report import words
from segkit.profiling.report.colours import STEP_PARTS, label
from segkit.profiling.summary import Interval

AGREES, DIFFERS, UNCLEAR = "agrees", "differs", "is not clear"
HALF = (0.4, 0.6)  # a time over another one that counts as half of it
STEADY = 0.05  # a relative change that is called none


@dataclass(frozen=True)
class Answer:
    """One finding asked of one group of cells that differ in nothing but ranks or workers."""

    subject: str  # "U-Net, 0 workers, packed"
    agrees: str
    group: list[CellResult]
    key: str  # in which the group's cells differ
    ratio: Interval | None  # time of a step's images at the last value over that at the first


@dataclass(frozen=True)
class Finding:
    """One of the study's findings, and what this machine says to it."""

    claim: str
    answers: list[Answer]
    missing: str = ""  # what would have to be measured, where nothing can be said
    untested: str = ""  # which part of the claim these cells cannot confirm

    @property
    def verdict(self) -> str:
        """In a clause."""
        if not self.answers:
            return f"Not tested here: {self.missing}."
        counts = Counter(answer.agrees for answer in self.answers)
        rest = f" {self.untested}" if self.untested else ""
        if len(counts) == 1:
            only = next(iter(counts))
            where = f" in all {len(self.answers)} comparisons" if len(self.answers) > 1 else ""
            unclear = self.untested or "the differences are within the noise, or there are too few repeats."
            return {
                AGREES: f"This machine agrees{where}.{rest}",
                DIFFERS: f"This machine differs{where}.",
                UNCLEAR: f"Not clear here{where}. {unclear[:1].upper()}{unclear[1:]}",
            }[only]
        said = [f"{word} in {counts[word]}" for word in (AGREES, DIFFERS, UNCLEAR) if counts[word]]
        return f"This machine {', '.join(said)} of {len(self.answers)} comparisons.{rest}"

    @property
    def said(self) -> list[str]:
        """What the comparisons have in common, in figures, and why: a sentence for each pair of ends."""
        alike: dict[tuple[Value, Value], list[Answer]] = defaultdict(list)
        for answer in self.answers:
            alike[answer.group[0].cell.value(answer.key), answer.group[-1].cell.value(answer.key)].append(answer)
        return [_in_common(found) for found in alike.values()]


def findings(comparison: Comparison) -> list[Finding]:
    """The four."""
    over_ranks = [g for g in comparison.groups("gpus") if len({c.ranks for c in g}) > 1]
    without = [g for g in over_ranks if g[0].workers == 0]
    with_workers = [g for g in over_ranks if g[0].workers > 0]
    over_workers = [g for g in comparison.groups("workers") if len({c.workers for c in g}) > 1]
    four = [g for g in without if {1, 2, 4} <= {c.ranks for c in g}]
    two = [g for g in without if {1, 2} <= {c.ranks for c in g}]
    return [
        Finding(
            "DistributedDataParallel cuts the training time of every net.",
            _answers(comparison, over_ranks, _falls, "gpus"),
            "it needs cells on several numbers of ranks",
        ),
        Finding(
            "With 0 workers, 2 GPUs halve the training time, but 4 GPUs are slower again.",
            _answers(comparison, four or two, _halves, "gpus"),
            "it needs cells with 0 workers on 1, 2 and 4 ranks",
            ""
            if four
            else "4 ranks were not measured, so that the halving can be denied here, but the claim not confirmed.",
        ),
        Finding(
            "With workers, the training time falls as GPUs are added.",
            _answers(comparison, with_workers, _falls, "gpus"),
            "it needs cells with workers on several numbers of ranks",
        ),
        Finding(
            "The training time rises with the number of workers.",
            _answers(comparison, over_workers, _rises, "workers"),
            "it needs cells with several numbers of workers",
        ),
    ]


Judge = Callable[[Comparison, Sequence[CellResult]], str]


def _answers(comparison: Comparison, groups: Sequence[list[CellResult]], judge: Judge, key: str) -> list[Answer]:
    return [
        Answer(
            comparison.name(group[0], without=(key,)) or "all cells",
            judge(comparison, group),
            group,
            key,
            comparison.effects.ratio(group[0].id, group[-1].id),
        )
        for group in groups
    ]


# --- judging -------------------------------------------------------------------------------------


def _change(comparison: Comparison, one: CellResult, other: CellResult) -> int:
    """Whether the second takes longer (1), less (-1), or neither clearly (0)."""
    ratio = comparison.effects.ratio(other.id, one.id)  # of rates
    if ratio is None or ratio.low is None or ratio.high is None or ratio.low <= 1 <= ratio.high:
        return 0
    return -1 if ratio.value > 1 else 1


def _falls(comparison: Comparison, group: Sequence[CellResult]) -> str:
    """The time falls at every step of the group."""
    return _all([-_change(comparison, one, other) for one, other in pairwise(group)])


def _rises(comparison: Comparison, group: Sequence[CellResult]) -> str:
    return _all([_change(comparison, one, other) for one, other in pairwise(group)])


def _all(signs: Sequence[int]) -> str:
    """Agrees where every sign is 1; differs as soon as one is clearly not."""
    if all(sign > 0 for sign in signs):
        return AGREES
    return DIFFERS if any(sign < 0 for sign in signs) else UNCLEAR


def _halves(comparison: Comparison, group: Sequence[CellResult]) -> str:
    """2 ranks take about half of the time of 1, and 4 take longer than 2; without 4, it can only be denied."""
    by_ranks = {cell.ranks: cell for cell in group}
    ratio = comparison.effects.ratio(by_ranks[1].id, by_ranks[2].id)
    if ratio is None or ratio.low is None or ratio.high is None:
        return UNCLEAR
    if ratio.low > HALF[1] or ratio.high < HALF[0]:
        return DIFFERS
    if 4 not in by_ranks:
        return UNCLEAR
    slower = _all([_change(comparison, by_ranks[2], by_ranks[4])])
    return slower if HALF[0] <= ratio.value <= HALF[1] or slower == DIFFERS else UNCLEAR


# --- words ---------------------------------------------------------------------------------------


def _in_common(answers: Sequence[Answer]) -> str:
    """The ratio of times over all comparisons, and what of a step changed, on average."""
    key, first, last = answers[0].key, _pooled([a.group[0] for a in answers]), _pooled([a.group[-1] for a in answers])
    ratios = [answer.ratio.value for answer in answers if answer.ratio]
    ends = [setting(key, cell.cell.value(key)) for cell in (first, last)]
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else math.nan
    over = f" on average ({min(ratios):.2f} to {max(ratios):.2f} in {len(ratios)})" if len(ratios) > 1 else ""
    return (
        f"With {ends[1]} training takes {mean:.2f} times as long as with {ends[0]}{over}. Why: {why(first, last, key)}."
    )


def _pooled(cells: Sequence[CellResult]) -> CellResult:
    """Cells as one, whose figures are means over all."""
    return CellResult(cells[0].cell, [row for cell in cells for row in cell.rows], [], None)


def why(one: CellResult, other: CellResult, key: str) -> str:
    """What of a step changed between two cells, in time by part; the step's images may differ."""
    if not one.parts or not other.parts:
        return "the stall attribution is missing"
    before, after = sum(one.parts.values()), sum(other.parts.values())
    changes = {part: other.parts[part] - one.parts[part] for part in STEP_PARTS}
    large = sorted(
        (part for part in changes if abs(changes[part]) >= STEADY * before), key=lambda part: -abs(changes[part])
    )
    said = [
        f"{words.milliseconds(abs(changes[part]))} {'more' if changes[part] > 0 else 'less'} {label(part)}"
        for part in large[:3]
    ]
    parts = ", ".join(said) or f"no part changes by more than {100 * STEADY:.0f} % of it"
    return f"{_doing(one, other, key, (before, after))}: {parts}{_cause(one, other, changes) if large else ''}"


def _doing(one: CellResult, other: CellResult, key: str, seconds: tuple[float, float]) -> str:
    """How long a step takes, and what it does in that time: ranks do more in a step together than one alone."""
    slices = (one.batch * one.ranks, other.batch * other.ranks)
    before, after = map(words.milliseconds, seconds)
    if slices[0] != slices[1]:
        return f"a step trains {slices[1]} slices instead of {slices[0]} and takes {after} instead of {before}"
    ends = [setting(key, cell.cell.value(key)) for cell in (one, other)]
    return f"from {ends[0]} to {ends[1]} a step of the same slices goes from {before} to {after}"


def _cause(one: CellResult, other: CellResult, changes: dict[str, float]) -> str:
    """The reasons that the records themselves give."""
    causes = []
    cpus, used = other.mean("cpus"), other.mean("cpu_used")
    threads = [cell.mean("threads") for cell in (one, other)]
    on_cpu = all(row.device == "cpu" for row in (*one.rows, *other.rows))
    if on_cpu and changes["compute"] > 0 and other.ranks > one.ranks:
        grant = f"{cpus:.0f} granted {'CPU' if cpus == 1 else 'CPUs'}" if cpus else "same cores"
        each = f", {threads[0]:.0f} and {threads[1]:.0f} threads a rank" if threads[0] and threads[1] else ""
        causes.append(f"the ranks compute on the {grant}{each}")
        alone = one.mean("cpu_used")
        if cpus and alone and one.ranks == 1 and one.workers == 0 and alone < 0.9 * cpus:
            causes.append(f"one rank alone kept {words.number(alone)} of them busy")
    processes = other.ranks * (1 + other.workers)
    if changes["compute"] > 0 and other.workers > one.workers and cpus and processes > cpus:
        causes.append(f"{processes} busy processes share {words.count(round(cpus), 'granted CPU')}")
    share = other.mean("wait_cpu_share")
    if changes["starved"] > 0 and other.workers == 0 and share is not None and share > 0.5:
        causes.append(f"in {words.share(share)} of the wait the training process itself decodes")
    if changes["starved"] > 0 and (other.mean("queued_workers") or 0.0) > 0.2 and other.workers:
        causes.append(f"{words.number(other.mean('queued_workers'))} processes at a time wait for a CPU")
    if cpus and used and other.ranks == 1 and used > 0.95 * cpus and not causes:
        causes.append(f"all of {words.count(round(cpus), 'granted CPU')} are busy")
    return f" ({'; '.join(causes)})" if causes else ""
