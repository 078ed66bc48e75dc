"""Runs any command and samples the devices that it uses meanwhile."""

from __future__ import annotations

import datetime
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from segkit.errors import ConfigError, SegkitError
from segkit.files import write_json
from segkit.profiling.records import remove_records
from segkit.unwritable import unwritable

PASSED_ON = ("SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM")
FROM_KEYS = (signal.SIGINT, signal.SIGQUIT)  # Ctrl-C and Ctrl-\, which the terminal sends to the child as well


def profile_command(command: Sequence[str], output: Path | None, *, interval: float) -> int:
    """Run `command` to its end, sample its devices, and say on stderr what was seen.

    Signals are passed on to it. Its standard streams are left alone.

    Returns:
        Its exit code; 128 + n where signal n ended it, as a shell has it.

    Raises:
        SegkitError: it cannot be started, or the interval is too short.
    """
    from segkit.profiling.analysis import JOB, summarise
    from segkit.profiling.report.text import to_text
    from segkit.profiling.sampling.sampler import SHORTEST, Sampler

    folder = output or _new_folder(Path(command[0]).name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error, "choose a folder with -o") from error
    if not interval >= SHORTEST:  # not a number, neither
        raise ConfigError("--sample-seconds", interval, f"{SHORTEST} or more with a command")
    remove_records(folder)
    began = time.time()
    with _signals_passed_on() as pass_on_to:
        child = _start(command)
        pass_on_to(child)
        with Sampler(folder, devices=None, interval=interval, pid=child.pid):
            code = _wait(child)
    write_json(
        folder / JOB, {"command": shlex.join(command), "exit code": str(code), "seconds": f"{time.time() - began:.1f}"}
    )
    print(to_text([summarise(folder)]), file=sys.stderr)
    print(f"segkit: profile in {folder}; segkit report {folder} makes a page of it", file=sys.stderr)
    return code


def _new_folder(name: str) -> Path:
    return Path("runs") / f"profile-{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}"


def _start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(list(command))
    except FileNotFoundError as error:
        raise SegkitError(f"{command[0]}: no such command; give it as a shell would find it") from error
    except OSError as error:
        raise SegkitError(f"{command[0]}: cannot be run ({error.strerror})") from error


def _wait(child: subprocess.Popen[bytes]) -> int:
    code = child.wait()
    return 128 - code if code < 0 else code


def _in_foreground() -> bool:
    """Whether this process and its child are what the terminal's keys reach, also where standard input is a file."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:  # no terminal controls this process
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


@contextmanager
def _signals_passed_on() -> Iterator[Callable[[subprocess.Popen[bytes]], None]]:
    """Pass signals on to the child that the yielded function is told of; those that come before it starts, too.

    What the terminal sends (Ctrl-C) reaches the child anyway and is not doubled.
    """
    child: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        if child is None:
            early.append(number)
        elif number in FROM_KEYS and os.getpgid(child.pid) == os.getpgrp() and _in_foreground():
            return
        elif child.poll() is None:
            child.send_signal(number)

    def pass_on_to(started: subprocess.Popen[bytes]) -> None:
        nonlocal child
        child = started
        while early:
            child.send_signal(early.pop(0))

    previous: dict[int, Any] = {}
    for name in PASSED_ON:
        number = getattr(signal, name, None)
        if number is not None:
            previous[number] = signal.signal(number, pass_on)
    try:
        yield pass_on_to
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
