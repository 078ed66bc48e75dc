"""The tables of a report as rows of text, shared by the page, the terminal and Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from segkit.profiling.report import words
from segkit.profiling.report.colours import label, ordered
from segkit.profiling.report.series import thinned
from segkit.profiling.summary import PARTS, DeviceSummary, HostSummary, RankSummary, RunSummary

MOST_EPOCHS = 200


@dataclass(frozen=True)
class Table:
    """`align` has "l" or "r" for each column; `keys` names the part that a row speaks of, where it does."""

    head: list[str]
    align: str
    rows: list[list[str]]
    note: str = ""
    keys: list[str] = field(default_factory=list)

    def without_empty_columns(self) -> Table:
        """Less the columns in which no row has a figure."""
        kept = [i for i in range(len(self.head)) if any(row[i] not in ("", words.NONE) for row in self.rows)]
        return Table(
            [self.head[i] for i in kept],
            "".join(self.align[i] for i in kept),
            [[row[i] for i in kept] for row in self.rows],
            self.note,
            self.keys,
        )


def figures(summary: RunSummary) -> list[tuple[str, str]]:
    """The run's main figures, label and value."""
    energy = summary.energy
    return [
        ("images/s, steady state [95 % interval]", words.interval(summary.images_per_s)),
        ("wall-clock time", words.duration(summary.seconds or None)),
        ("steps", f"{summary.steps:,}" if summary.steps else words.NONE),
        ("images", f"{summary.images:,}" if summary.steps else words.NONE),
        ("waited for the loader", words.share(part_share(summary, "starved") if summary.steps else None)),
        ("GPU utilisation", words.share(mean([device.util for device in summary.devices]))),
        ("GPU energy", words.number(energy.kwh, "kWh") if energy else words.NONE),
        ("per 1,000 images", words.number(energy.wh_per_1000_images, "Wh") if energy else words.NONE),
    ]


def part_share(summary: RunSummary, part: str) -> float | None:
    """The part's share of the wall-clock time; None where it was not measured."""
    return summary.share(part) if part in summary.parts else None


def mean(values: Sequence[float | None]) -> float | None:
    """Of the values that are there."""
    there = [value for value in values if words.known(value) is not None]
    return sum(there) / len(there) if there else None  # type: ignore[arg-type]


def parts(summary: RunSummary) -> Table:
    """What the wall-clock time went to."""
    rows, keys = [], []
    for part, seconds in ordered(summary.parts):
        a_step = seconds / summary.steps if summary.steps else None
        meaning = PARTS[part][1] if part in PARTS else ""
        rows.append([label(part), words.share(summary.share(part)), words.duration(seconds)])
        rows[-1] += [words.milliseconds(a_step), meaning]
        keys.append(part)
    return Table(["part", "share", "time", "a step", "what it is"], "lrrrl", rows, keys=keys)


def epochs(summary: RunSummary, most: int = MOST_EPOCHS) -> Table:
    """Rate and shares by epoch; of very many epochs evenly spaced ones."""
    names = [part for part in PARTS if any(epoch.shares.get(part) for epoch in summary.epochs)]
    chosen = [summary.epochs[i] for i in thinned(range(len(summary.epochs)), most)]
    rows = [
        [str(e.epoch + 1), words.duration(e.seconds), words.number(e.images_per_s)]
        + [words.share(e.shares.get(part, 0.0)) for part in names]
        for e in chosen
    ]
    note = "" if len(chosen) == len(summary.epochs) else f"{len(chosen)} of {len(summary.epochs):,} epochs are listed."
    return Table(["epoch", "time", "images/s", *map(label, names)], "r" * (3 + len(names)), rows, note)


def ranks(summary: RunSummary, most: int | None = None) -> Table:
    """One row a rank, times a step; with `most`, the ranks that cost the others the most."""
    shown = summary.ranks
    if most is not None and len(shown) > most:
        costly = sorted(shown, key=lambda rank: -(words.known(rank.cost_others_s) or 0.0))[:most]
        shown = sorted(costly, key=lambda rank: rank.rank)
    same = len({rank.device for rank in summary.ranks}) == 1
    head = ["rank", "host", "device", "step", "loader wait", "of that felt", "copy", "compute"]
    head += ["sync", "waited for others", "cost others", "last"]
    rows = [_rank_row(rank, same) for rank in shown]
    notes = ["Times a step, means."]
    if same and shown:
        notes.append(f"Every rank ran on {shown[0].device}.")
    if len(shown) < len(summary.ranks):
        notes.append(f"The {len(shown)} most costly of {len(summary.ranks)} ranks.")
    return Table(head, "rll" + "r" * 9, rows, " ".join(notes)).without_empty_columns()


def _rank_row(rank: RankSummary, same: bool) -> list[str]:
    times = [rank.step_s, rank.wait_s, rank.starved_s, rank.copy_s, rank.compute_s, rank.sync_s]
    times += [rank.waited_for_others_s, rank.cost_others_s]
    named = [str(rank.rank), rank.host, words.NONE if same else rank.device]
    return [*named, *map(words.milliseconds, times), words.share(rank.last_share)]


def devices(summary: RunSummary) -> Table:
    """One row a GPU."""
    head = ["GPU", "utilisation", "SM", "tensor", "DRAM", "memory peak", "power", "energy", "hottest", "throttled"]
    rows = [_device_row(device, i) for i, device in enumerate(summary.devices)]
    return Table(head, "l" + "r" * 8 + "l", rows).without_empty_columns()


def _device_row(device: DeviceSummary, index: int) -> list[str]:
    kwh = None if device.energy is None else device.energy / 3.6e6
    hottest = words.NONE if device.temperature_max is None else f"{device.temperature_max} °C"
    memory = words.gib(device.memory_peak)
    if device.memory_peak is not None and device.info.memory_total:
        memory = f"{device.memory_peak / 2**30:.1f} of {words.gib(device.info.memory_total)}"
    shares = map(words.share, (device.util, device.sm, device.tensor, device.dram))
    throttled = ", ".join(f"{reason} {words.share(part)}" for reason, part in device.throttled.items())
    name = f"{index} {device.info.name}" + (" (MIG)" if device.info.mig else "")
    figures = [memory, words.number(device.power_mean, "W"), words.number(kwh, "kWh"), hottest]
    return [name, *shares, *figures, throttled or words.NONE]


def hosts(summary: RunSummary) -> Table:
    """One row a node."""
    own, started = words.processes(timed=bool(summary.steps))
    head = ["host", "CPUs granted", f"used by {own}", f"by {started}", "by all programs", "read from storage"]
    rows = []
    for h in summary.hosts:
        used = [words.number(h.cpu_main), words.number(h.cpu_workers), _of_machine(h)]
        rows.append([h.host, str(h.cpus), *used, words.megabytes_a_second(h.read)])
    return Table(head, "lrrrrr", rows).without_empty_columns()


def _of_machine(host: HostSummary) -> str:
    """CPUs in use on the whole node, of all that it has."""
    used = words.number(host.cpu_machine)
    return f"{used} of {host.machine_cpus}" if used != words.NONE and host.machine_cpus else used


def stalls(summary: RunSummary) -> Table:
    """The differential stall analysis: rates and lost shares with their intervals."""
    if summary.differential is None:
        return Table(["measurement", "value", "what it is"], "lrl", [])
    found = summary.differential.stalls
    rows = [
        ["net alone", words.interval(found.compute) + " images/s", "Batches that are on the device already."],
        ["pipeline, warm files", words.interval(found.warm) + " images/s", "Files in the page cache."],
    ]
    if found.cold:
        rows.append(["pipeline, cold files", words.interval(found.cold) + " images/s", "Files read from storage."])
    shares = [
        ("prep stall", found.prep_stall, "Lost to decoding and collating: net alone against warm files."),
        ("fetch stall", found.fetch_stall, "Lost to storage: warm files against cold ones."),
        ("copy share", found.copy_share, "Of a step in which the batch was copied to the device."),
    ]
    for name, figure, meaning in shares:
        rows.append([name, words.interval(figure, words.share) if figure else "not measured", meaning])
    return Table(["measurement", "value [95 % interval]", "what it is"], "lrl", rows)


def workers(summary: RunSummary) -> Table:
    """The loader settings that were tried or predicted."""
    curve = summary.differential.curve if summary.differential else []
    rows = [
        [
            point.loader or words.NONE,
            str(point.workers),
            words.interval(point.images_per_s) if point.images_per_s else "not run",
            words.number(point.predicted),
            "chosen" if point.chosen else "",
        ]
        for point in curve
    ]
    head = ["loader", "workers", "measured images/s", "predicted images/s", "choice"]
    return Table(head, "lrrrl", rows).without_empty_columns()


# Of a differential analysis: what the description says already, and the words for the rest.
_TOLD_ELSEWHERE = ("batch", "loader", "workers", "cpus", "on_cpu")
_SECONDS = {
    "load_s": "one process makes a batch in",
    "compute_s": "the net computes a step in",
    "copy_s": "a batch is copied in",
}
_SIZES = {"data_bytes": "data", "memory_bytes": "memory that was free"}


def _setting(key: str, value: Any) -> list[str]:
    if key in _SECONDS:
        return [_SECONDS[key], words.duration(float(value))]
    if key in _SIZES:
        return [_SIZES[key], words.gib(float(value))]
    if key == "contention":
        return ["a second of loading slows the net by", words.duration(float(value))]
    return [key, str(value)]


def settings(summary: RunSummary) -> Table:
    """What ran."""
    rows = [[key, str(value)] for key, value in summary.description.items()]
    if summary.differential:
        known = {*summary.description, *_TOLD_ELSEWHERE}
        values = summary.differential.settings.items()
        rows += [_setting(key, value) for key, value in values if key not in known and value is not None]
    rows += [["folder", summary.path], ["started", words.clock(summary.started)]]
    return Table(["setting", "value"], "ll", rows)


def missing(summary: RunSummary) -> Table:
    """What the report has to do without."""
    return Table(["missing", "why"], "ll", [[item.what, item.why] for item in summary.missing])
