"""Runs a check in a process of its own: a crash or a hang of what is checked is a finding, not the doctor's end."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

SECONDS = 120.0  # a GPU's first use may take tens of seconds
_MARK = "segkit-doctor:"  # before the answer, so that what libraries print is told apart


@dataclass(frozen=True)
class Answer:
    """What the process said, or how it ended without saying anything."""

    values: dict[str, Any] = field(default_factory=dict)
    died: str = ""  # how, where it gave no answer
    stderr: str = ""


def ask(module: str, *words: str, seconds: float = SECONDS) -> Answer:
    """Run `python -m module words...` and read the JSON that `answer` prints there."""
    command = [sys.executable, "-m", module, *words]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return Answer(died=f"did not answer in {seconds:.0f} s")
    except OSError as error:
        return Answer(died=f"could not be started ({error.strerror})")
    lines = [line for line in done.stdout.splitlines() if line.startswith(_MARK)]
    if lines:
        return Answer(json.loads(lines[-1].removeprefix(_MARK)), "", done.stderr)
    last = (done.stderr.strip().splitlines() or [""])[-1][:200]
    died = _signal(-done.returncode) if done.returncode < 0 else f"ended with exit code {done.returncode}"
    return Answer(died=died + (f": {last}" if last else ""), stderr=done.stderr)


def answer(values: dict[str, Any]) -> None:
    """In the process: give the answer."""
    print(_MARK + json.dumps(values), flush=True)


def _signal(number: int) -> str:
    try:
        return f"crashed with {signal.Signals(number).name}"
    except ValueError:
        return f"crashed with signal {number}"
