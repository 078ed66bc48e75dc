"""Any program under `segkit profile --`: real child processes, real signals."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from segkit.profiling.analysis import summarise
from segkit.profiling.records import HostSample, read_lines
from tests.conftest import Run, clean_environment


def test_the_exit_code_and_the_streams_are_the_commands(segkit: Run, tmp_path: Path) -> None:
    script = "echo out; echo err >&2; sleep 0.3; exit 3"
    done = segkit("profile", "-o", "out", "--sample-seconds", "0.1", "--", "sh", "-c", script)
    assert done.returncode == 3
    assert done.stdout == "out\n"  # nothing of ours
    assert done.stderr.startswith("err\n")
    assert "segkit: profile in out; segkit report out makes a page of it" in done.stderr
    job = json.loads((tmp_path / "out" / "job.json").read_text())
    assert job["command"] == "sh -c 'echo out; echo err >&2; sleep 0.3; exit 3'"
    assert job["exit code"] == "3"
    assert float(job["seconds"]) >= 0.3
    summary = summarise(tmp_path / "out")
    assert (summary.steps, len(summary.hosts)) == (0, 1)


def test_standard_input_reaches_the_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "segkit", "profile", "-o", "out", "--", "cat"],
        input="through\n",
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "through\n")


def test_the_samples_are_of_the_command_and_its_children(segkit: Run, tmp_path: Path) -> None:
    busy = "import time; end = time.process_time() + 0.8\nwhile time.process_time() < end: pass"
    words = [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {busy!r}])"]
    done = segkit("profile", "-o", "out", "--sample-seconds", "0.2", "--", *words)
    assert done.returncode == 0, done.stderr
    (file,) = (tmp_path / "out").glob("host-*.jsonl")
    samples = read_lines(file, HostSample)
    assert len(samples) >= 2
    assert any(s.cpu_workers is not None and s.cpu_workers > 0.2 for s in samples)
    assert any(s.workers == 1 for s in samples)


def test_a_command_that_dies_of_a_signal(segkit: Run) -> None:
    done = segkit("profile", "-o", "out", "--", "sh", "-c", "kill -KILL $$")
    assert done.returncode == 128 + signal.SIGKILL
    assert "profile in out" in done.stderr


def heed_signals() -> None:
    """Undo what nohup and background jobs do to their children: a shell cannot trap a signal that is ignored."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)


@pytest.mark.parametrize("name", ["TERM", "USR1", "INT", "HUP", "QUIT", "ALRM"])
def test_signals_are_passed_on(tmp_path: Path, name: str) -> None:
    script = f"trap 'echo {name} >> got; exit 7' {name}; touch ready; while :; do sleep 0.05; done"
    running = subprocess.Popen(
        [sys.executable, "-m", "segkit", "profile", "-o", "out", "--", "sh", "-c", script],
        cwd=tmp_path,
        env=clean_environment(),
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        preexec_fn=heed_signals,
    )
    try:
        wait_for(tmp_path / "ready", running)
        time.sleep(0.2)  # the command is ready sooner than the one that watches it
        running.send_signal(getattr(signal, f"SIG{name}"))
        _, stderr = running.communicate(timeout=30)
    finally:
        running.kill()
    assert (tmp_path / "got").read_text() == f"{name}\n"
    assert running.returncode == 7
    assert b"profile in out" in stderr
    assert list((tmp_path / "out").glob("sampler-*.json"))


@pytest.mark.parametrize("key", [b"\x03", b"\x1c"])
@pytest.mark.parametrize("redirected", ["", "< /dev/null"])
def test_a_key_of_the_terminal_reaches_the_command_once(tmp_path: Path, key: bytes, redirected: str) -> None:
    name = "INT" if key == b"\x03" else "QUIT"
    script = f"trap 'echo {name} >> got' {name}; touch ready; until test -e got; do sleep 0.05; done; sleep 0.5; exit 7"
    (tmp_path / "script").write_text(script)
    # Nothing that a key's signal would end may stand between the terminal and segkit.
    whole = f"exec {sys.executable} -m segkit profile -o out -- sh script {redirected}"
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        heed_signals()
        os.execvpe("sh", ["sh", "-c", whole], clean_environment())
    until = time.monotonic() + 30
    while not (tmp_path / "ready").exists() and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(0.2)
    os.write(terminal, key)
    with contextlib.suppress(OSError):  # how a terminal's other end says that all have left
        while os.read(terminal, 4096):
            pass
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 7
    assert (tmp_path / "got").read_text() == f"{name}\n"


def wait_for(file: Path, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 30
    while not file.exists():
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.02)


def test_a_command_that_does_not_exist(segkit: Run) -> None:
    done = segkit("profile", "--", "no-such-program", "--flag")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "segkit: no-such-program: no such command; give it as a shell would find it\n"


def test_a_command_that_cannot_be_run(segkit: Run, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    done = segkit("profile", "--", "./folder")
    assert done.returncode == 2
    assert done.stderr == "segkit: ./folder: cannot be run (Permission denied)\n"


def test_an_output_folder_that_cannot_be_made(segkit: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = segkit("profile", "-o", "file/out", "--", "touch", "ran")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "file/out: cannot be written (Not a directory)" in done.stderr
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("interval", ["0", "0.001"])
def test_too_short_an_interval_is_refused_before_the_command_runs(segkit: Run, tmp_path: Path, interval: str) -> None:
    done = segkit("profile", "-o", "out", "--sample-seconds", interval, "--", "touch", "ran")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "--sample-seconds" in done.stderr
    assert not (tmp_path / "ran").exists()


def test_a_second_command_in_the_same_folder_replaces_the_first(segkit: Run, tmp_path: Path) -> None:
    for _ in range(2):
        done = segkit("profile", "-o", "out", "--sample-seconds", "0.1", "--", "sleep", "0.4")
        assert done.returncode == 0, done.stderr
    (file,) = (tmp_path / "out").glob("host-*.jsonl")
    times = [sample.t for sample in read_lines(file, HostSample)]
    assert times[-1] - times[0] < 1.5 * float(json.loads((tmp_path / "out" / "job.json").read_text())["seconds"]) + 0.2
