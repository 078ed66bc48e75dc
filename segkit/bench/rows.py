"""Results: one JSON line a measurement, appended as it ends.

OUT/study.toml        the study as resolved
OUT/results.jsonl     Row, one a measurement
OUT/parts/*.jsonl     the same, from jobs of a cluster; `gather` adds them to results.jsonl
OUT/cells/<id>-r<n>/  the run directory of a measurement, its checkpoints removed once it is measured
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segkit.bench.study import Cell, Measurement, Study
from segkit.config import Value
from segkit.errors import FileError
from segkit.profiling.records import LineFile, read_lines

DONE, FAILED = "done", "failed"


@dataclass(slots=True)
class Row:
    """One measurement. Seconds unless said otherwise; what could not be measured is None, never 0."""

    cell: str
    repeat: int
    settings: dict[str, Value]
    hold: str
    status: str  # DONE or FAILED
    reason: str | None = None  # of a failure
    command: str = ""
    host: str = ""
    started: float = 0.0  # Unix time
    seconds: float = 0.0  # of the whole process
    segkit: str = ""
    machine: dict[str, Any] = field(default_factory=dict)  # platform, packages, commit, SLURM job
    device: str = ""  # "cpu", "cuda"
    device_name: str = ""
    ranks: int = 1
    threads: int | None = None  # of a rank
    cpus: int | None = None  # granted on the node
    steps: int = 0
    images_per_s: float | None = None  # all ranks, steady state
    images_low: float | None = None  # its 95 % interval within this measurement
    images_high: float | None = None
    step_s: float | None = None  # mean of the steady steps
    parts: dict[str, float] = field(default_factory=dict)  # seconds of a steady step by part, mean over ranks
    fill_s: float | None = None  # what the first steps of an epoch took beyond steady ones
    train_slices: int | None = None
    epoch_s: float | None = None  # the training slices at the steady rate, and fill_s
    first_step_s: float | None = None  # from starting the process to the end of its first step
    util: float | None = None  # of the GPUs, 0 to 1
    sm: float | None = None
    tensor: float | None = None
    cpu_used: float | None = None  # CPUs, of the first rank of each node and its loader's workers
    memory_gpu: int | None = None  # bytes, the fullest GPU's peak
    memory_host: int | None = None  # bytes, peak resident memory of the same processes
    wh_per_1000: float | None = None  # GPU energy of 1,000 images
    wait_cpu_share: float | None = None  # share of the wait for the loader in which the waiting thread worked
    io_wait: float | None = None  # share of the time in which something waited for storage
    queued_workers: float | None = None  # processes that could run, but waited for a CPU
    verdict: str | None = None  # kind, see profiling.advice.KINDS
    sentence: str | None = None  # the verdict in words
    parameters: int | None = None
    gflops: float | None = None  # of a forward pass of one training image
    val_dice: float | None = None
    accuracy: dict[str, list[float | None]] = field(default_factory=dict)  # test figure -> value, low, high

    @property
    def done(self) -> bool:
        """Whether there is a result."""
        return self.status == DONE

    @property
    def as_cell(self) -> Cell:
        """The cell that was measured."""
        return Cell(self.settings, self.hold)


@dataclass(frozen=True)
class StudyFolder:
    """The files of a study."""

    path: Path

    @property
    def study(self) -> Path:
        """`study.toml`."""
        return self.path / "study.toml"

    @property
    def results(self) -> Path:
        """`results.jsonl`."""
        return self.path / "results.jsonl"

    @property
    def cache(self) -> Path:
        """The packed dataset, shared by the cells."""
        return self.path / ".segkit-cache"

    @property
    def lock(self) -> Path:
        """Held by the one process that measures here."""
        return self.path / ".lock"

    def part(self, task: int) -> Path:
        """The results of one job of a cluster."""
        return self.path / "parts" / f"{task}.jsonl"

    def run(self, measurement: Measurement) -> Path:
        """The run directory of a measurement."""
        return self.path / "cells" / measurement.name

    def open_study(self) -> Study:
        """The study that is measured here. Raises FileError where there is none."""
        if not self.study.exists():
            raise FileError(
                self.path, "holds no study (no study.toml)", "give a folder that `segkit bench sweep` wrote"
            )
        return Study.load(self.study, {}, {})

    def rows(self) -> list[Row]:
        """The last row of each measurement, in the order of the file, jobs' results that are not gathered included."""
        files = [self.results, *sorted((self.path / "parts").glob("*.jsonl"), key=lambda p: (len(p.name), p.name))]
        return latest(row for file in files for row in read_lines(file, Row))

    def append(self, row: Row, file: Path | None = None) -> None:
        """Add a row; it is on disk when this returns."""
        lines = LineFile(file or self.results)
        lines.add(row)
        lines.flush()

    def gather(self) -> int:
        """Add the jobs' results to results.jsonl; each once. How many were new."""
        known = {(row.cell, row.repeat, row.started) for row in read_lines(self.results, Row)}
        new = [row for row in self.rows() if (row.cell, row.repeat, row.started) not in known]
        for row in new:
            self.append(row)
        return len(new)


def latest(rows: Iterable[Row]) -> list[Row]:
    """The newest row of each measurement."""
    found: dict[tuple[str, int], Row] = {}
    for row in rows:
        known = found.get((row.cell, row.repeat))
        if known is None or row.started >= known.started:
            found[row.cell, row.repeat] = row
    return list(found.values())
