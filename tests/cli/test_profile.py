"""`segkit profile` and `train --workers auto`, as a user runs them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.conftest import Run

TINY = ("--width", "2", "--batch", "4", "--model", "unet")


def test_a_job_is_profiled_and_reported(segkit: Run, phantom: Path, tmp_path: Path) -> None:
    words = ["--loader", "files", "--workers", "0", "--counts", "0,1", "--seconds", "0.3"]
    done = segkit("profile", "--data", phantom, *TINY, *words, "-o", "out", OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "\r" not in done.stderr  # progress is for a person who watches
    recorded = json.loads((tmp_path / "out" / "profile" / "differential.json").read_text())
    chosen = next(point for point in recorded["curve"] if point["chosen"])
    advice = f"--loader {chosen['loader']} --workers {chosen['workers']}"
    assert advice in done.stdout
    assert re.search(r"the net loses \d+ ?% of its time", done.stdout)
    page = (tmp_path / "out" / "report.html").read_text()
    assert advice in page
    assert {point["workers"] for point in recorded["curve"] if point["loader"] == "files"} == {0, 1}
    assert recorded["stalls"]["compute"]["value"] > 0
    assert recorded["verification"] is None
    # The folder can be reported again, and profiled again.
    again = segkit("report", "out", "--format", "text")
    assert again.returncode == 0, again.stderr
    assert advice in again.stdout


@pytest.mark.slow
def test_a_prediction_is_verified_by_a_real_training(segkit: Run, phantom: Path, tmp_path: Path) -> None:
    words = ["--loader", "packed", "--counts", "0", "--seconds", "0.3", "--no-cold", "--verify"]
    done = segkit("profile", "--data", phantom, *TINY, *words, "-o", "runs/out", OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    verification = json.loads((tmp_path / "runs/out/profile/differential.json").read_text())["verification"]
    assert verification["workers"] == 0
    off = abs(verification["measured"]["value"] / verification["predicted"] - 1)
    assert verification["holds"] == (off <= 0.1)
    said = " ".join(done.stdout.split())  # lines are wrapped
    assert f"the prediction {'held' if verification['holds'] else 'did not hold'}" in said
    assert f"the prediction {'holds' if verification['holds'] else 'does not hold'}" in said
    assert [path.name for path in (tmp_path / "runs").iterdir() if not path.name.startswith(".segkit")] == ["out"]


@pytest.mark.slow
def test_training_with_workers_auto_tries_them_first(segkit: Run, phantom: Path, tmp_path: Path) -> None:
    words = ["--loader", "files", "--workers", "auto", "--epochs", "1", "--no-export"]
    done = segkit("train", "--data", phantom, *TINY, *words, "--run", "run", OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    said = re.search(r"^workers: 0: ([\d.e+]+), 1: ([\d.e+]+) images/s; taking (\d) \(\d+ s\)$", done.stdout, re.M)
    assert said is not None, done.stdout
    rates, taken = [float(said[1]), float(said[2])], int(said[3])
    assert rates[taken] >= 0.95 * max(rates)
    assert f"workers = {taken}\n" in (tmp_path / "run" / "config.toml").read_text()


@pytest.mark.parametrize("counts", ["x", "1,,x", "0;1", "-1", "²"])
def test_counts_that_are_no_numbers_are_refused_in_a_line(segkit: Run, phantom: Path, counts: str) -> None:
    done = segkit("profile", "--data", phantom, f"--counts={counts}", PYTHONUTF8="1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"segkit: --counts = {counts!r}: allowed is numbers with commas between them, e.g. 0,1,2,4\n"
    )


@pytest.mark.parametrize("workers", ["many", "-3", "--5", "1.5"])
def test_workers_that_are_no_number_are_refused_in_a_line(segkit: Run, phantom: Path, workers: str) -> None:
    done = segkit("train", "--data", phantom, f"--workers={workers}")
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("segkit: workers = ")


def test_data_that_are_not_there_are_named_in_a_line(segkit: Run) -> None:
    done = segkit("profile", "--data", "nowhere", "--model", "unet")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "nowhere" in done.stderr
