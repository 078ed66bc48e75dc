"""Measures a study, cell by cell, so that it can be killed at any time and gone on with."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import FrameType

import torch

from segkit.bench.measure import measured
from segkit.bench.process import LOG, Ended, end_marked, reason, run_marked
from segkit.bench.rows import FAILED, Row, StudyFolder
from segkit.bench.study import Measurement, Study
from segkit.bench.words import cell_name
from segkit.data.split import Split
from segkit.errors import ConfigError, Interrupted, SegkitError
from segkit.files import read_json, write_json, write_text
from segkit.profiling.report import words
from segkit.runs import RunDirectory
from segkit.training.config import TrainConfig
from segkit.training.dataset import locate, open_dataset

SPLIT = "split.json"
STARTED = "measurement.json"  # in a run: when its process was started, for a study that is killed before its row
Say = Callable[[str], None]


@dataclass(frozen=True)
class SweepOptions:
    """How a study is measured, beyond what it measures."""

    retry: bool = False  # measure again what failed
    keep: bool = False  # keep the checkpoints of the cells


def begin(folder: StudyFolder, study: Study) -> Study:
    """Write the study down, or go on with the same one.

    Raises:
        SegkitError: another study is measured in this folder.
    """
    study = study.replace(data=str(locate(str(study.settings.get("data", ""))).resolve()))
    if folder.study.exists():
        there = folder.open_study()
        if there != study:
            which = ", ".join(_differences(there, study))
            raise SegkitError(f"{folder.path}: holds another study ({which} differ); choose another --output")
        return there
    write_text(folder.study, study.to_toml())
    return study


def _differences(one: Study, other: Study) -> list[str]:
    sections = [({**vars(s.config), **s.settings}) for s in (one, other)]
    return [key for key in {**sections[0], **sections[1]} if sections[0].get(key) != sections[1].get(key)]


def sweep(
    folder: StudyFolder, study: Study, options: SweepOptions, say: Say, *, tasks: Sequence[int] | None = None
) -> None:
    """Measure what has no row yet, in the study's order; rows are appended as each measurement ends.

    Args:
        folder: where the results are.
        study: what `begin` gave.
        options: see there.
        say: called with a line for each measurement.
        tasks: positions in the study's order that this process measures, into `parts/`; None: all, into the results.

    Raises:
        Interrupted: asked to stop; what was measured is kept. SegkitError: another process measures in this folder.
    """
    plan = study.plan()
    chosen = list(range(len(plan))) if tasks is None else list(tasks)
    known = {(row.cell, row.repeat) for row in folder.rows() if row.done or not options.retry}
    missing = [i for i in chosen if (plan[i].cell.id, plan[i].repeat) not in known]
    if not missing:
        say(f"all of {words.count(len(chosen), 'measurement')} are there")
        return
    with _alone(folder, None if tasks is None else tasks[0]), _stoppable(len(chosen) - len(missing), len(chosen)):
        for measurement in (plan[i] for i in missing):
            end_marked(str(folder.run(measurement).resolve()))  # left by a study that was killed
        prepare(folder, study)
        for done, index in enumerate(missing, len(chosen) - len(missing) + 1):
            row = measure(folder, study, plan[index], options)
            folder.append(row, None if tasks is None else folder.part(index))
            if not options.keep:
                shutil.rmtree(folder.run(plan[index]) / "checkpoints", ignore_errors=True)
            say(f"{done:>4}/{len(chosen)}  {cell_name(row, study.varied)}  {_outcome(row)}")


def _outcome(row: Row) -> str:
    if not row.done:
        return f"FAILED: {row.reason}"
    starved = row.parts.get("starved", 0.0) / row.step_s if row.step_s else 0.0
    return f"{words.number(row.images_per_s, 'images/s')}, waiting for the loader {words.share(starved)}"


# --- one measurement -----------------------------------------------------------------------------


def measure(folder: StudyFolder, study: Study, measurement: Measurement, options: SweepOptions) -> Row:
    """Train a cell and give its row; a run that is there and finished is only read."""
    run = RunDirectory(folder.run(measurement))
    command = train_command(folder, study, measurement)
    row = _new_row(measurement, command)
    found = _finished(run, row, evaluated=study.config.accuracy)
    if found is not None:
        return found
    shutil.rmtree(run.path, ignore_errors=True)  # of a training that was killed
    run.path.mkdir(parents=True)
    write_json(run.path / STARTED, {"started": time.time()})
    ended = run_marked(command, run.path, cache=folder.cache, limit=study.config.limit)
    write_json(run.path / STARTED, {"started": ended.started, "seconds": ended.seconds})
    if ended.code == 0 and study.config.accuracy:
        evaluation = [sys.executable, "-m", "segkit", "evaluate", str(run.path), f"--device={_device(measurement)}"]
        ended = replace(run_marked(evaluation, run.path, cache=folder.cache), started=ended.started)
    row.started, row.seconds = ended.started, ended.seconds
    return _result(row, run, ended)


def _device(measurement: Measurement) -> str:
    return str(measurement.cell.value("device"))


def _finished(run: RunDirectory, row: Row, *, evaluated: bool) -> Row | None:
    """The row of a training that ended well, but whose study was killed before it could write it down."""
    needed = [run.last, run.path / STARTED, *([run.evaluation] if evaluated else [])]
    if not run.finished or not all(path.exists() for path in needed):
        return None
    times = read_json(run.path / STARTED)
    row.started, row.seconds = float(times["started"]), float(times.get("seconds", 0.0))
    return measured(row, run)


def _result(row: Row, run: RunDirectory, ended: Ended) -> Row:
    if ended.code != 0 or ended.limited:
        return replace(row, status=FAILED, reason=reason(ended, run.path / LOG))
    try:
        return measured(row, run)
    except SegkitError as error:  # it ended well without leaving what it should
        return replace(row, status=FAILED, reason=str(error))


def _new_row(measurement: Measurement, command: Sequence[str]) -> Row:
    cell = measurement.cell
    shown = " ".join(["segkit", *command[command.index("segkit") + 1 :]])
    return Row(cell.id, measurement.repeat, cell.settings, cell.hold, FAILED, command=shown)


def train_command(folder: StudyFolder, study: Study, measurement: Measurement) -> list[str]:
    """What a person would type to train this cell."""
    words_ = [sys.executable, "-m", "segkit", "train", f"--run={folder.run(measurement)}", "--no-export"]
    if (folder.path / SPLIT).exists() and not study.settings.get("split"):
        words_.append(f"--split={folder.path / SPLIT}")
    return words_ + measurement.cell.flags()


# --- before the first measurement ----------------------------------------------------------------


def prepare(folder: StudyFolder, study: Study) -> None:
    """Do once what else the first cell would do for all: read and pack the dataset, and choose the split.

    Where accuracy is not asked for, a single patient is validated on: nothing is learnt from the others, and
    the training slices stay the same.

    Raises:
        SegkitError: the dataset cannot be used.
    """
    os.environ.setdefault("SEGKIT_CACHE", str(folder.cache.resolve()))
    opened: set[tuple[object, ...]] = set()
    for cell in study.cells():
        config = TrainConfig.load(None, cell.settings)
        data = replace(config.data, loader="files" if config.data.loader == "files" else "packed")
        key = (data.data, data.size, data.fit, data.skip_bad, data.split, data.loader)
        if key in opened:
            continue
        opened.add(key)
        found = open_dataset(
            data, runs=folder.path, device=torch.device("cpu"), seed=config.system.seed, say=len(opened) == 1
        )
        if not study.config.accuracy and not data.split and not (folder.path / SPLIT).exists():
            _small_validation(found.split, {c.patient: len(c.slices) for c in found.case_set.cases}).save(
                folder.path / SPLIT
            )


def _small_validation(split: Split, slices: dict[str, int]) -> Split:
    return replace(split, val=(min(split.val, key=lambda name: (slices[name], name)),))


@contextlib.contextmanager
def _alone(folder: StudyFolder, task: int | None) -> Iterator[None]:
    """Hold the folder's lock (of a job: its own); the system frees it when this process ends, however it does."""
    path = folder.lock if task is None else folder.lock.with_name(f".lock-{task}")
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SegkitError(f"{folder.path}: another process measures here; wait for it to end") from error
        yield


@contextlib.contextmanager
def _stoppable(done: int, total: int) -> Iterator[None]:
    """SIGTERM and SIGINT end the measurement at hand, and say how to go on."""

    def stop(number: int, _: FrameType | None) -> None:
        for known in before:
            signal.signal(known, signal.SIG_IGN)  # SLURM often sends it twice, and the second would end the cleaning up
        raise Interrupted(
            f"stopped by {signal.Signals(number).name}; what was measured is kept: go on with the same command"
        )

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def task_of(text: str, plan: int) -> int:
    """A position in the plan, as SLURM_ARRAY_TASK_ID has it. Raises ConfigError."""
    if not text.isdigit() or int(text) >= plan:
        raise ConfigError("--task", text, f"a number from 0 to {plan - 1}")
    return int(text)
