"""`segkit bench`, as typed: real trainings, killed and gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from segkit.bench.process import marked
from tests.conftest import Run, clean_environment

TINY = ("--width=2", "--batch=4", "--crop=32", "--steps=4", "--device=cpu", "--loader=packed", "--sample-seconds=0.1")


def rows(folder: Path) -> list[dict[str, Any]]:
    path = folder / "results.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def wait_for(what: Any, seconds: float = 100.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


@pytest.mark.slow
def test_a_sweep_that_is_killed_goes_on_and_measures_nothing_twice(phantom: Path, tmp_path: Path, segkit: Run) -> None:
    words = ["bench", "sweep", "-o", "s", f"--data={phantom}", "--model=fcn", "--workers=0,1", "--repeats=1", *TINY]
    command = [sys.executable, "-m", "segkit", *words]
    study = subprocess.Popen(command, cwd=tmp_path, env=clean_environment(), stdout=subprocess.DEVNULL)
    wait_for(lambda: len(rows(tmp_path / "s")) == 1)
    orphans = wait_for(lambda: [pid for pid in marked(str(tmp_path / "s"), below=True) if pid != study.pid])
    study.kill()
    study.wait()
    first = rows(tmp_path / "s")
    assert any(Path(f"/proc/{pid}").exists() for pid in orphans)  # the kill leaves a training behind

    done = segkit(*words)
    assert done.returncode == 0, done.stderr
    assert marked(str(tmp_path / "s"), below=True) == []
    found = rows(tmp_path / "s")
    assert found[0] == first[0]
    assert len({row["cell"] for row in found}) == len(found) == 2
    assert all(row["status"] == "done" and row["images_per_s"] > 0 and row["first_step_s"] > 0 for row in found)
    assert {row["settings"]["workers"] for row in found} == {0, 1}
    assert not list((tmp_path / "s").rglob("*.pt"))

    assert "all of 2 measurements are there" in segkit("bench", "sweep", "-o", "s").stdout
    other = segkit("bench", "sweep", "-o", "s", f"--data={phantom}", "--model=fcn", *TINY)
    assert other.returncode == 2
    assert "holds another study" in other.stderr
    said = segkit("bench", "report", "s", "--format=text").stdout
    assert "The training time rises with the number of workers." in said


@pytest.mark.slow
def test_a_cell_that_is_killed_or_fails_is_a_row_and_not_the_end(phantom: Path, tmp_path: Path, segkit: Run) -> None:
    words = ["bench", "sweep", "-o", "s", f"--data={phantom}", "--model=unet,nonet", "--repeats=1", *TINY]
    study = subprocess.Popen(
        [sys.executable, "-m", "segkit", *words, "--epochs=1000", "--steps=0"],
        cwd=tmp_path,
        env=clean_environment(),
        stdout=subprocess.DEVNULL,
    )
    try:
        running = wait_for(lambda: list((tmp_path / "s").glob("cells/*/profile/steps-rank0.jsonl")))
        for pid in marked(str(running[0].parents[1].resolve())):
            os.kill(pid, signal.SIGKILL)
        assert study.wait(100) == 0
    finally:
        study.kill()
    reasons = {row["settings"]["model"]: row["reason"] for row in rows(tmp_path / "s")}
    assert "SIGKILL" in reasons["unet"]
    assert "model = 'nonet'" in reasons["nonet"]
    assert "Measurements that failed" in segkit("bench", "report", "s", "--format=text").stdout


@pytest.mark.slow
def test_what_was_measured_before_the_kill_but_not_written_down_is_read_and_not_measured_again(
    phantom: Path, tmp_path: Path, segkit: Run
) -> None:
    words = ["bench", "sweep", "-o", "s", f"--data={phantom}", "--model=fcn", "--repeats=2", "--keep", *TINY]
    assert segkit(*words).returncode == 0
    first, second = rows(tmp_path / "s")
    results = tmp_path / "s" / "results.jsonl"
    results.write_text(json.dumps(first) + "\n" + json.dumps(second)[:40], encoding="utf-8")  # killed while writing
    done = segkit(*words)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in results.read_text("utf-8").splitlines() if line.endswith("}")]
    assert [row["started"] for row in found] == [first["started"], second["started"]]
    assert found[1]["images_per_s"] == second["images_per_s"]


@pytest.mark.slow
def test_a_task_of_an_array_measures_its_cell_and_the_results_are_gathered(
    phantom: Path, tmp_path: Path, segkit: Run
) -> None:
    words = ["bench", "sweep", "-o", "s", f"--data={phantom}", "--model=fcn", "--repeats=2", *TINY]
    refused = segkit(*words, "--slurm", PATH="/nonexistent")
    assert refused.returncode == 2
    assert "sbatch is not there" in refused.stderr
    for script in ("array-0gpu.sbatch", "gather.sbatch"):
        assert subprocess.run(["bash", "-n", str(tmp_path / "s" / script)], check=False).returncode == 0
    done = segkit("bench", "sweep", "--output=s", "--task=1")  # what the second task of the array runs
    assert done.returncode == 0, done.stderr
    assert rows(tmp_path / "s") == []
    for _ in range(2):  # gathering twice adds nothing twice
        assert segkit("bench", "sweep", "--output=s", "--gather").returncode == 0
    (row,) = rows(tmp_path / "s")
    assert (row["status"], row["repeat"]) == ("done", 1)


def test_mistakes_are_one_line_before_anything_starts(phantom: Path, tmp_path: Path, segkit: Run) -> None:
    for words, told in (
        (["sweep", f"--data={phantom}", "--workers=0,x"], "workers = 'x': allowed is values of type int"),
        (["sweep", f"--data={phantom}", "--batch=3", "--gpus=2", "--hold=global"], "multiple of the 2 ranks"),
        (["ablate", f"--data={phantom}", "--techniques=packed"], "key=value"),
        (["report", "nothing"], "nothing: holds no study (no study.toml)"),
        (["report", "nothing", "--format=pdf"], "html, markdown, csv, png; or text"),
    ):
        done = segkit("bench", *words)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
        assert told in done.stderr
    assert not (tmp_path / "bench").exists()


@pytest.mark.slow
def test_ranks_and_accuracy(phantom: Path, tmp_path: Path, segkit: Run) -> None:
    done = segkit(
        "bench", "sweep", "-o", "s", f"--data={phantom}", "--model=fcn", "--gpus=1,2", "--repeats=1", "--accuracy",
        "--hold=global", *TINY,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = {row["ranks"]: row for row in rows(tmp_path / "s")}
    assert {ranks: row["settings"]["batch"] for ranks, row in found.items()} == {1: 4, 2: 2}
    assert all(row["accuracy"]["patient_dice_mean"][0] is not None for row in found.values())
    said = segkit("bench", "report", "s")
    assert "Accuracy against cost" in said.stdout
    assert "the global batch held fixed" in " ".join(said.stdout.split())
    assert (tmp_path / "s" / "report" / "comparison.html").exists()


def test_an_exported_model_is_timed(tmp_path: Path, segkit: Run) -> None:
    import torch

    from segkit.export.onnx_model import export_onnx
    from segkit.model_metadata import ModelMetadata
    from segkit.models.deployed import DeployedNet
    from segkit.models.normalise import Normalise
    from segkit.models.registry import build

    torch.manual_seed(0)
    net = DeployedNet(build("unet", in_channels=3, classes=2, width=2), Normalise((0.5,) * 3, (0.25,) * 3))
    names = ("background", "tumour"), ("pre", "flair", "post")
    export_onnx(net.eval(), ModelMetadata("unet", 2, *names, (32, 32), "scale", (0, 255)), tmp_path / "model.onnx")
    words = ["--batch=1,3", "--threads=1", "--precision=fp32,int8", "--seconds=0.01", "--rounds=1", "-o", "x.jsonl"]
    done = segkit("bench", "infer", "model.onnx", *words)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text("utf-8").splitlines()]
    assert [(row["precision"], row["batch"]) for row in found] == [("fp32", 1), ("fp32", 3), ("int8", 1), ("int8", 3)]
    assert all(len(row["latencies"]) >= 10 and set(row["cold"]) for row in found)
    assert found[0]["agreement"] == 1.0
    assert found[2]["model_bytes"] < found[0]["model_bytes"]
    unknown = segkit("bench", "infer", "model.onnx", "--provider=gpu")
    assert unknown.returncode == 2
    assert "cpu, cuda" in unknown.stderr
