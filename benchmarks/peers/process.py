"""A peer's side and the driver's side of a comparison: each peer is a process that works when it is told to.

The driver sends a number of batches on a line; the peer does so many and answers with seconds and CPU seconds. So the
peers stay warm, and can be measured in turn, round by round.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

ROOT = Path(__file__).parents[2]
CHANNELS, CLASSES = 3, 2
Tick = Callable[[], None]
Task = Callable[[int, Tick], None]  # do so many batches; call the tick after each


@dataclass(frozen=True)
class Job:
    """What all peers are given alike."""

    data: str  # the dataset's folder
    split: str  # segkit's split file; its training slices are `images` and `masks`
    images: list[str]
    masks: list[str]
    scratch: str
    batch: int = 8
    workers: int = 0
    threads: int = 1
    width: int = 16
    size: int = 256


def serve(tasks: Mapping[str, Callable[[Job], Task]]) -> None:
    """Be a peer: `python peer.py TASK JOB.json`, then orders on standard input until it ends."""
    answers = os.fdopen(os.dup(1), "w")  # what libraries print goes to standard error
    os.dup2(2, 1)
    job = Job(**json.loads(Path(sys.argv[2]).read_text("utf-8")))
    import torch

    torch.set_num_threads(job.threads)
    torch.manual_seed(0)
    task = tasks[sys.argv[1]](job)
    _answer(answers, {"ready": True})
    for line in sys.stdin:
        _answer(answers, _timed(task, int(line)))


def _timed(task: Task, batches: int) -> dict[str, float]:
    """Seconds between the first and the last tick (the first batch fills queues); CPU seconds of all of them."""
    ticks: list[float] = []
    before = _cpu_seconds()
    task(batches + 1, lambda: ticks.append(time.perf_counter()))
    return {"seconds": (ticks[-1] - ticks[0]) / (len(ticks) - 1), "cpu": (_cpu_seconds() - before) / len(ticks)}


def _cpu_seconds() -> float:
    """Of this process and of those that it started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _answer(answers: TextIO, values: dict[str, Any]) -> None:
    answers.write(json.dumps(values) + "\n")
    answers.flush()


class Peer:
    """The driver's side of one."""

    def __init__(self, name: str, python: Path, module: str, task: str, job: Job) -> None:
        self.name = name
        folder = Path(job.scratch) / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "job.json").write_text(json.dumps({**asdict(job), "scratch": str(folder)}), encoding="utf-8")
        self._log = (folder / "log").open("w")
        self._process = subprocess.Popen(
            [str(python), "-m", module, task, str(folder / "job.json")],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(job.threads)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self._read()

    def measure(self, batches: int) -> dict[str, float]:
        """Seconds and CPU seconds a batch."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{batches}\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            told = Path(self._log.name).read_text("utf-8").strip().splitlines()[-3:]
            raise RuntimeError(f"{self.name} ended: {' / '.join(told)}")
        found: dict[str, float] = json.loads(line)
        return found

    def end(self) -> None:
        """Let it end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._log.close()
