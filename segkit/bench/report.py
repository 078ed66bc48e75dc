"""The comparison as sections of sentences, tables and pictures: the one source of its page, Markdown and text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from matplotlib.figure import Figure

from segkit.bench import charts
from segkit.bench.comparison import CellResult, Comparison
from segkit.bench.findings import findings
from segkit.bench.findings_tables import tables
from segkit.bench.gains import Ablation, ablations
from segkit.bench.pareto import COSTS, DICE, trades
from segkit.bench.scaling import Curve, ScalingFit, fit
from segkit.bench.values import shown
from segkit.bench.words import net, setting
from segkit.profiling.report import words
from segkit.profiling.report.tables import Table

MIOU = "pooled_miou"
MOST_CURVES = 6  # of which the scaling is drawn; the table has all


@dataclass(frozen=True)
class Picture:
    """A figure that is drawn when it is needed; `name` is its file's."""

    name: str
    title: str
    draw: partial[Figure]
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A heading with what stands under it."""

    title: str
    said: list[str] = field(default_factory=list)
    points: list[str] = field(default_factory=list)  # a list, after the sentences
    pictures: list[Picture] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


def sections(comparison: Comparison) -> list[Section]:
    """Everything that the study says, the answers first."""
    found = [_findings(comparison), *_ablations(comparison), _times(comparison), _scaling(comparison)]
    found += [_accuracy(comparison), _table(comparison), _failures(comparison), _conditions(comparison)]
    return [section for section in found if section is not None]


def title(comparison: Comparison) -> str:
    """The heading of the report."""
    nets = dict.fromkeys(net(cell.cell.value("model")) for cell in comparison.cells)
    kind = "ablation" if comparison.study.techniques else "comparison"
    return f"{', '.join(nets)}: {kind}"


# --- sections ------------------------------------------------------------------------------------


def _findings(comparison: Comparison) -> Section | None:
    if comparison.study.techniques:
        return None
    said = [
        "What an earlier study found for FCN, U-Net and SegNet with DistributedDataParallel, asked of this machine."
    ]
    found = findings(comparison)
    points = []
    for number, finding in enumerate(found, 1):
        points += [f"{number}. {finding.claim} {finding.verdict}", *finding.said]
    return Section("The four findings", said, points, tables=list(tables(comparison, found)))


def _ablations(comparison: Comparison) -> Iterator[Section]:
    for index, found in enumerate(ablations(comparison), 1):
        name = f"What each technique gives: {found.name}" if found.name else "What each technique gives"
        picture = Picture(
            f"ablation-{index}",
            "From the plain loop to all techniques",
            partial(charts.waterfall, found),
            "Green: a clear gain; orange: a clear loss; grey: no clear change. Whiskers: 95 % intervals.",
        )
        yield Section(name, [_whole(found)], pictures=[picture], tables=[_gains(found)])


def _whole(found: Ablation) -> str:
    if found.whole is None:
        return "The full set or the plain loop was not measured."
    return f"All techniques together train {words.interval(found.whole)} times as fast as the plain loop."


def _gains(found: Ablation) -> Table:
    rows = [
        [
            gain.name,
            words.interval(gain.alone),
            words.interval(gain.added),
            words.interval(gain.removed),
            _signed(gain.memory, 2**20, "MiB"),
            _signed(gain.dice, 1.0, ""),
        ]
        for gain in found.gains
    ]
    head = ["technique", "alone", "after those above", "in the full set", "memory", "test Dice"]
    note = (
        "Ratios of images/s with 95 % intervals, each with the technique over without it: added to the plain loop "
        "alone; added after those above it; and in the full set, against the full set without it. Memory and Dice: "
        "the change by adding it after those above it."
    )
    return Table(head, "lrrrrr", rows, note).without_empty_columns()


def _signed(value: float | None, unit: float, name: str) -> str:
    if value is None:
        return words.NONE
    said = words.number(abs(value) / unit, name) if unit > 1 else f"{abs(value):.4f}"
    return ("+" if value >= 0 else "−") + said


def _times(comparison: Comparison) -> Section | None:
    if comparison.study.techniques or not comparison.measured:
        return None
    pictures = []
    for model in dict.fromkeys(cell.cell.value("model") for cell in comparison.measured):
        cells = [cell for cell in comparison.measured if cell.cell.value("model") == model and cell.epoch]
        name = partial(comparison.name, without=("model", "gpus", "workers"))
        if cells:
            draw = partial(charts.training_time, cells, name)
            pictures.append(Picture(f"time-{model}", f"{net(model)}: time of an epoch", draw))
    said = (
        "The training part of an epoch: its slices at the steady rate, and what starting the workers and filling "
        "their queues takes beyond it. Whiskers: 95 % intervals."
    )
    return Section("Training time against GPUs and workers", [said], pictures=pictures) if pictures else None


def _scaling(comparison: Comparison) -> Section | None:
    found = fit(comparison)
    if found is None:
        return None
    rows = [row for curve in found.curves for row in _scaling_rows(curve)]
    note = "Efficiency: images/s over (ranks × images/s of one rank). Rows marked predicted are the model's word alone."
    table = Table(["cells", "ranks", "images/s", "by the fit", "efficiency", ""], "lrrrrl", rows, note)
    pictures = [
        Picture(f"scaling-{i}", f"{curve.name}: images/s over ranks", partial(charts.scaling, curve))
        for i, curve in enumerate(_spread(found.curves), 1)
    ]
    return Section("Scaling over ranks", _scaling_words(found, comparison), pictures=pictures, tables=[table])


def _spread(curves: list[Curve]) -> list[Curve]:
    """Some of them, over all nets."""
    count = min(MOST_CURVES, len(curves))
    return [curves[i * len(curves) // count] for i in range(count)]


def _scaling_rows(curve: Curve) -> Iterator[list[str]]:
    alone = next((p for p in curve.points if p.ranks == 1), None)
    for point in curve.points:
        efficiency = point.efficiency
        if point.predicted and alone is not None:
            efficiency = point.modelled.value / (point.ranks * (alone.measured or alone.modelled).value)
        kind = "predicted" if point.predicted else "measured"
        measured, fitted = words.interval(point.measured), words.interval(point.modelled)
        yield [curve.name, str(point.ranks), measured, fitted, words.share(efficiency), kind]


def _scaling_words(found: ScalingFit, comparison: Comparison) -> list[str]:
    held = "each rank's batch" if comparison.study.config.hold == "rank" else "the global batch"
    speed = f"{words.number(found.bandwidth / 1e9)} GB/s" if found.bandwidth else "too fast to be seen"
    said = [
        f"Ranks are compared with {held} held fixed. The model: time of a step = compute + bytes / bandwidth + "
        f"latency × log2(ranks), where a ring all-reduce moves 2 (n − 1) / n times the gradients. Fitted to the "
        f"measured cells: bandwidth {speed}, latency {words.milliseconds(found.latency)}; the fit differs from the "
        f"measured times by {words.share(found.error)} (root mean square, {found.freedom} cells more than parameters)."
    ]
    if found.shared:
        said.append(
            "The ranks share the cores of this machine, so their computing slows down as they become more: that part "
            "is measured, and beyond the measured ranks it grows in proportion to them. Nothing of this holds for "
            "GPUs, and the intervals of predicted points are those of the fit, not of what the model leaves out."
        )
    return said


def _accuracy(comparison: Comparison) -> Section | None:
    pictures, said = [], []
    for cost, (axis, _) in COSTS.items():
        found = trades(comparison, cost)
        if not found:
            continue
        pictures.append(
            Picture(f"accuracy-{cost}", f"Test Dice against {axis}", partial(charts.trade_off, found, axis))
        )
        front = ", ".join(f"{t.name} ({t.dice.value:.4f})" for t in found if t.on_front)
        said.append(f"On the Pareto front of Dice against {axis}: {front}.")
    said.append("On the front: no other cell is at least as good in both, and better in one.")
    return Section("Accuracy against cost", said, pictures=pictures) if pictures else None


_HEAD = ["images/s", "s/epoch", "first step", "loader", "copy", "ranks", "GPU util.", "CPUs", "memory", "Wh/1,000",
         "mIoU", "Dice"]  # fmt: skip


def _table(comparison: Comparison) -> Section:
    axes = list(dict.fromkeys(["model", *comparison.axes]))
    rows = [[*(_value(cell, key) for key in axes), *_figures(cell)] for cell in comparison.cells]
    note = (
        "s/epoch: the training part of an epoch. first step: from starting the process to its first step. loader, "
        "copy, ranks: share of the steps in which the device waited for them. CPUs: used by the first rank and its "
        "workers. memory: peak, of the fullest GPU, or of the first rank and its workers. In brackets: 95 % intervals."
    )
    head = [key.replace("_", " ").replace("gpus", "ranks" if comparison.on_cpu else "GPUs") for key in axes]
    align = "".join("r" if key in ("gpus", "workers", "batch", "width") else "l" for key in axes) + "r" * len(_HEAD)
    return Section("All cells", tables=[Table([*head, *_HEAD], align, rows, note).without_empty_columns()])


def _value(cell: CellResult, key: str) -> str:
    value = cell.cell.value(key)
    return net(value) if key == "model" else shown(value)


def _figures(cell: CellResult) -> list[str]:
    if cell.rate is None:
        return ["failed" if cell.failed else words.NONE, *[words.NONE] * (len(_HEAD) - 1)]
    memory = cell.mean("memory_gpu") or cell.mean("memory_host")
    return [
        words.interval(cell.rate),
        words.interval(cell.epoch),
        words.duration(cell.mean("first_step_s")),
        *(words.share(cell.share(part)) for part in ("starved", "copy", "sync")),
        words.share(cell.mean("util")),
        words.number(cell.mean("cpu_used")),
        words.gib(memory),
        words.number(cell.mean("wh_per_1000")),
        *(words.interval(cell.figure(key), _four_digits) for key in (MIOU, DICE)),
    ]


def _four_digits(value: float | None) -> str:
    return words.NONE if value is None else f"{value:.4f}"


def _failures(comparison: Comparison) -> Section | None:
    failures = comparison.failures
    if not failures:
        return None
    counts = Counter((row.cell, row.reason or "") for row in failures)
    named = {row.cell: next(cell for cell in comparison.cells if cell.id == row.cell) for row in failures}
    rows = [[comparison.name(named[cell]), str(count), reason] for (cell, reason), count in counts.items()]
    return Section("Measurements that failed", tables=[Table(["cell", "times", "reason"], "lrl", rows)])


def _conditions(comparison: Comparison) -> Section:
    rows = [row for row in comparison.rows if row.done] or comparison.rows
    machine = rows[0].machine
    held = "the batch of each rank" if comparison.study.config.hold == "rank" else "the global batch, over all ranks"
    fixed = {key: value for key, value in comparison.study.settings.items() if key not in comparison.axes}
    packages = ", ".join(f"{name} {version}" for name, version in machine.get("packages", {}).items())
    pairs = [
        (
            "measurements",
            f"{len(comparison.rows)} of {len(comparison.study.plan())}, {len(comparison.failures)} failed",
        ),
        ("host", ", ".join(sorted({row.host for row in rows}))),
        ("device", ", ".join(sorted({row.device_name for row in rows if row.device_name}))),
        ("granted CPUs", ", ".join(sorted({str(row.cpus) for row in rows if row.cpus}))),
        ("platform", f"{machine.get('platform', '')}, Python {machine.get('python', '')}"),
        ("packages", packages),
        ("segkit", f"{rows[0].segkit}, commit {machine.get('commit') or 'unknown'}"),
        ("held fixed over ranks", held),
        ("same in every cell", ", ".join(setting(key, v) for key, v in fixed.items() if not isinstance(v, list))),
        ("first measured", words.clock(min(row.started for row in rows))),
        ("one of the commands", rows[0].command),
    ]
    said = [
        "Each cell was measured in rounds, every round in an order of its own, each measurement in a process of its "
        "own. " + comparison.effects.told_by
    ]
    return Section("Conditions", said, tables=[Table(["", ""], "ll", [list(pair) for pair in pairs])])
