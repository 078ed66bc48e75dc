"""Runs one measurement as a process of its own, and ends all that it started.

Ranks and loader workers are started in sessions of their own, so that neither a process group nor a parent's death
reaches all of them. They inherit the environment, though: a variable in it marks what belongs to a measurement.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MARK = "SEGKIT_BENCH_CELL"
LOG = "output.log"
_LAUNCHED = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    code: int  # as `subprocess` has it: negative for a signal
    seconds: float
    started: float  # Unix time
    limited: bool = False  # it was ended because it took too long


def run_marked(command: Sequence[str], folder: Path, *, cache: Path, limit: float = 0.0) -> Ended:
    """Run a command to its end, with its output in `folder`; nothing of it is alive when this returns or raises."""
    folder.mkdir(parents=True, exist_ok=True)
    mark = str(folder.resolve())
    environment = {key: value for key, value in os.environ.items() if key not in _LAUNCHED}
    environment |= {MARK: mark, "SEGKIT_CACHE": os.environ.get("SEGKIT_CACHE", str(cache.resolve()))}
    with (folder / LOG).open("ab") as log:
        started = time.time()
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a terminal's Ctrl-C reaches the study alone, which ends the measurement
        )
        limited = False
        try:
            process.wait(limit or None)
        except subprocess.TimeoutExpired:
            limited = True
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            end_marked(mark)
    return Ended(process.returncode, time.time() - started, started, limited)


def end_marked(mark: str, *, below: bool = False) -> int:
    """End every process whose mark is `mark` (with `below`: a path under it); how many there were.

    What a study leaves behind when it is killed would disturb the measurements of the next one.
    """
    ended = 0
    while found := marked(mark, below=below):
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
                ended += 1
            except ProcessLookupError:
                continue
        time.sleep(0.02)
    return ended


def marked(mark: str, *, below: bool = False) -> list[int]:
    """The processes with this mark, this one left out; none where the system has no /proc."""
    wanted = f"{MARK}={mark}".encode()
    wanted = wanted.rstrip(b"/") + b"/" if below else wanted + b"\0"
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            environment = (path / "environ").read_bytes() + b"\0"
        except OSError:  # it has ended, or belongs to somebody else
            continue
        if (environment.startswith(wanted) or b"\0" + wanted in environment) and int(path.name) != os.getpid():
            found.append(int(path.name))
    return found


# --- why it failed -------------------------------------------------------------------------------

_MEMORY = re.compile(r"out of memory|OutOfMemoryError|can't allocate memory|std::bad_alloc|MemoryError", re.IGNORECASE)
_ERROR = re.compile(r"^(\[rank\d+\]: ?)?([A-Za-z_.]*(Error|Exception|Interrupt)\b.*)$")
_LONGEST = 300


def reason(ended: Ended, log: Path) -> str:
    """Why a process failed, in one line from what it wrote."""
    if ended.limited:
        return f"took longer than the limit and was ended after {ended.seconds:.0f} s"
    lines = [line.strip() for line in _tail(log) if line.strip()]
    memory = next((line for line in lines if _MEMORY.search(line)), None)
    if memory is not None:
        return f"out of memory: {_plain(memory)}"
    lost = next((found.group(1) for line in lines if (found := re.search(r"exit code (-\d+)", line))), None)
    if ended.code < 0 or lost is not None:
        number = -(ended.code if ended.code < 0 else int(lost or 0))
        whose = "it" if ended.code < 0 else "a rank"
        more = "; the system kills what takes too much memory (see dmesg)" if number == signal.SIGKILL else ""
        return f"{whose} was killed by {_signal_name(number)}{more}"
    own = [line.removeprefix("segkit: ") for line in lines if line.startswith("segkit: ")]
    told = [line for line in own if "its message is above" not in line and "lost contact" not in line]
    errors = [found.group(2) for line in lines if (found := _ERROR.match(line))]
    for said in (told, errors, own, lines):
        if said:
            return _plain(said[-1])
    return f"ended with exit code {ended.code} and said nothing"


def _tail(log: Path, size: int = 64 * 1024) -> list[str]:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - size))
            return file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []


def _plain(line: str) -> str:
    clean = " ".join("".join(c if c.isprintable() else " " for c in line).split())
    return clean if len(clean) <= _LONGEST else clean[: _LONGEST - 1] + "…"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
