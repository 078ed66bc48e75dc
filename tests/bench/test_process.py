from __future__ import annotations

import sys
from pathlib import Path

import pytest

from segkit.bench.process import LOG, Ended, marked, reason, run_marked

SLEEPER = "[sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True"
DETACHED = f"import subprocess, sys; subprocess.Popen({SLEEPER})"


def test_nothing_that_a_measurement_started_outlives_it(tmp_path: Path) -> None:
    """Not even what it put into a session of its own, as the launcher does with ranks."""
    ended = run_marked([sys.executable, "-c", DETACHED], tmp_path / "cell", cache=tmp_path)
    assert ended.code == 0
    assert marked(str(tmp_path / "cell")) == []


def test_the_limit_ends_it(tmp_path: Path) -> None:
    ended = run_marked([sys.executable, "-c", "import time; time.sleep(600)"], tmp_path, cache=tmp_path, limit=0.3)
    assert ended.limited
    assert "longer than the limit" in reason(ended, tmp_path / LOG)


@pytest.mark.parametrize(
    ("code", "log", "told"),
    [
        (
            1,
            "Traceback\n  x\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB\n",
            "out of memory: torch",
        ),
        (-9, "epoch 1\n", "it was killed by SIGKILL; the system kills what takes too much memory"),
        (2, "hello\nsegkit: a rank failed (exit code -9); its message is above\n", "a rank was killed by SIGKILL"),
        (2, "segkit: --data x: is not a folder\n", "--data x: is not a folder"),
        (2, "ValueError: no\nsegkit: a rank failed (exit code 1); its message is above\n", "ValueError: no"),
        (3, "", "exit code 3"),
    ],
)
def test_the_reason_of_a_failure_is_one_line(code: int, log: str, told: str, tmp_path: Path) -> None:
    (tmp_path / LOG).write_text(log, encoding="utf-8")
    said = reason(Ended(code, 1.0, 0.0), tmp_path / LOG)
    assert said.startswith(told) or told in said
    assert "\n" not in said
