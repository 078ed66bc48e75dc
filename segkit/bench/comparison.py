"""What a study's rows say: one `CellResult` a cell, grouped for the questions that the report asks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from segkit.bench.effects import Effects
from segkit.bench.rows import Row, StudyFolder
from segkit.bench.study import Cell, Study
from segkit.bench.words import ordered, settings
from segkit.config import Value
from segkit.errors import FileError
from segkit.profiling.report.colours import STEP_PARTS
from segkit.profiling.samples import known
from segkit.profiling.summary import Interval


@dataclass(frozen=True)
class CellResult:
    """One cell over its repeats; means, where there are several."""

    cell: Cell
    rows: list[Row]  # those that ended well
    failed: list[Row]
    rate: Interval | None  # images/s of all ranks

    @property
    def id(self) -> str:
        """The cell's name for good."""
        return self.cell.id

    def mean(self, name: str) -> float | None:
        """Mean of a figure over the repeats."""
        found = [value for row in self.rows if (value := getattr(row, name)) is not None]
        return float(np.mean(found)) if found else None

    @property
    def ranks(self) -> int:
        """Processes that trained together."""
        return int(self.cell.value("gpus"))

    @property
    def workers(self) -> int:
        """Loader processes of a rank, as asked for."""
        return int(self.cell.value("workers"))

    @property
    def parts(self) -> dict[str, float]:
        """Seconds of a step by part."""
        there = [row.parts for row in self.rows if row.parts]
        return {p: float(np.mean([one.get(p, 0.0) for one in there])) for p in STEP_PARTS} if there else {}

    def share(self, part: str) -> float | None:
        """A part's share of the steps."""
        whole = sum(self.parts.values())
        return self.parts[part] / whole if whole else None

    @property
    def epoch(self) -> Interval | None:
        """Seconds of an epoch's training: the slices at the steady rate, and the filling of the loader's queues."""
        slices, fill = self.mean("train_slices"), self.mean("fill_s") or 0.0
        if self.rate is None or slices is None:
            return None
        ends = [slices / end + fill if end else None for end in (self.rate.high, self.rate.low)]
        return Interval(slices / self.rate.value + fill, *ends)

    @property
    def batch(self) -> int:
        """Slices a step on each rank."""
        return int(self.cell.value("batch"))

    def figure(self, key: str) -> Interval | None:
        """A test figure; over repeats, their mean within the widest interval of the patients."""
        found = [row.accuracy[key] for row in self.rows if key in row.accuracy]
        values, low, high = ([f[i] for f in found if f[i] is not None] for i in range(3))
        if not values:
            return None
        return Interval(float(np.mean(known(values))), min(known(low), default=None), max(known(high), default=None))


class Comparison:
    """The results of one study."""

    def __init__(self, study: Study, rows: Sequence[Row], path: Path) -> None:
        self.study, self.rows, self.path = study, list(rows), path
        self.effects = Effects.of(rows)

    @classmethod
    def load(cls, path: Path) -> Comparison:
        """Of a study's folder. Raises FileError where nothing has been measured."""
        folder = StudyFolder(path)
        study, rows = folder.open_study(), folder.rows()
        if not rows:
            raise FileError(folder.results, "has no results yet", "run `segkit bench sweep` with this folder first")
        return cls(study, rows, path)

    @cached_property
    def cells(self) -> list[CellResult]:
        """All cells that were measured, in the order of the grid."""
        by_cell: dict[str, list[Row]] = defaultdict(list)
        for row in self.rows:
            by_cell[row.cell].append(row)
        order = [cell.id for cell in self.study.cells()]
        known = sorted(by_cell, key=lambda name: order.index(name) if name in order else len(order))
        return [self._result(by_cell[name]) for name in known]

    def _result(self, rows: list[Row]) -> CellResult:
        done, failed = [row for row in rows if row.done], [row for row in rows if not row.done]
        return CellResult(rows[0].as_cell, done, failed, self.effects.rate(rows[0].cell))

    @property
    def measured(self) -> list[CellResult]:
        """Those with a rate."""
        return [cell for cell in self.cells if cell.rate is not None]

    def find(self, cell: Cell) -> CellResult | None:
        """The result of a cell, if it was measured."""
        return next((one for one in self.cells if one.id == cell.id), None)

    @cached_property
    def axes(self) -> list[str]:
        """The settings in which cells differ, the study's own first."""
        values = {key: {repr(cell.cell.value(key)) for cell in self.cells} for key in self._keys()}
        return ordered(key for key, found in values.items() if len(found) > 1)

    def _keys(self) -> Iterable[str]:
        return dict.fromkeys(key for cell in self.cells for key in cell.cell.settings)

    def name(self, cell: CellResult, without: Iterable[str] = ()) -> str:
        """What tells a cell from the others."""
        keys = [key for key in self.axes if key not in set(without)] or ([] if without else ["model"])
        return settings({key: cell.cell.value(key) for key in keys}, keys)

    def groups(self, *varying: str) -> list[list[CellResult]]:
        """Cells that differ in nothing but these settings, in their order; groups of one, too."""
        found: dict[tuple[Value, ...], list[CellResult]] = defaultdict(list)
        rest = [key for key in self.axes if key not in varying and not (key == "batch" and self._global(varying))]
        for cell in self.measured:
            found[tuple(cell.cell.value(key) for key in rest)].append(cell)
        for cells in found.values():
            cells.sort(key=lambda cell: tuple(_sortable(cell.cell.value(key)) for key in varying))
        return list(found.values())

    def _global(self, varying: tuple[str, ...]) -> bool:
        """Whether the batch of a rank differs because the ranks do."""
        return self.study.config.hold == "global" and "gpus" in varying

    @property
    def on_cpu(self) -> bool:
        """Whether the ranks shared the cores of a machine."""
        return all(row.device == "cpu" for row in self.rows if row.done)

    @property
    def failures(self) -> list[Row]:
        """Measurements that failed, each with its reason."""
        return [row for row in self.rows if not row.done]


def _sortable(value: Value) -> tuple[bool, float, str]:
    number = isinstance(value, bool | int | float)
    return (not number, float(value) if number else 0.0, str(value))
