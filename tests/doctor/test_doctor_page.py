"""The page, the JSON, the exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from segkit.doctor.finding import exit_code, failure, note, ok, warning
from segkit.doctor.page import WIDTH, to_plain, to_text
from tests.doctor.conftest import BARE

OK = ok("cpu.granted", "2 granted", "Fine.")
NOTE = note("torch", "not installed", "No training.", "pip install it")
WARNING = warning("memory.shm", "small " * 40, "Workers die.", "enlarge it")
FAILURE = failure("gpu.driver", "no driver", "The CPU is used.", "install it")


@pytest.mark.parametrize(
    ("findings", "code"), [([], 0), ([OK], 0), ([OK, NOTE], 0), ([NOTE, WARNING], 1), ([WARNING, FAILURE, OK], 2)]
)
def test_the_exit_code_is_the_worst(findings: list, code: int) -> None:  # type: ignore[type-arg]
    assert exit_code(findings) == code
    assert to_plain(findings)["exit_code"] == code


def test_the_page_says_what_to_do_where_something_is_to_do() -> None:
    text = to_text([OK, NOTE, WARNING, FAILURE])
    assert max(map(len, text.splitlines())) <= WIDTH
    for word in ("Fine.", "No training.", "> pip install it", "Workers die.", "> enlarge it", "> install it"):
        assert (word in text) is (word != "Fine.")
    assert text.endswith("(1 failure, 1 warning, 1 note, 1 ok)\n")


def test_the_verb_in_an_empty_environment(tmp_path: Path) -> None:
    """No PATH, no HOME: `env -i`."""
    words = [sys.executable, "-m", "segkit", "doctor", "--json"]
    environment = {"PYTHONPATH": BARE["PYTHONPATH"]}
    done = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    said = json.loads(done.stdout)
    assert done.stderr == ""
    assert done.returncode == said["exit_code"]
    checks = {finding["check"]: finding for finding in said["findings"]}
    assert {"host.machine", "gpu.driver", "torch", "onnxruntime", "onnxruntime.cpu", "memory.shm"} <= set(checks)
    assert {"place.runs", "place.cache", "place.temporary", "network.loopback", "slurm.job"} <= set(checks)
    assert checks["onnxruntime.cpu"]["severity"] == "ok"
    assert checks["host.user"]["severity"] == "note"
    for finding in said["findings"]:
        assert finding["fact"]
        assert finding["meaning"]
        assert finding["remedy"] or finding["severity"] in ("ok", "note")
    assert list(tmp_path.iterdir()) == []
