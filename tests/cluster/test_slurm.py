"""Jobs on a real SLURM of two nodes: they train, are stopped in every way, say so, and go on."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.cluster.slurm_cluster import Cluster, running_cluster, text_of, wait_for

pytestmark = pytest.mark.cluster
TRAINING = ("--model=unet", "--width=4", "--batch=4", "--device=cpu", "--no-export", "--time=30")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="segkit-slurm-") as folder, running_cluster(Path(folder)) as started:
        yield started


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the jobs are submitted; its name has what a careless script stumbles over."""
    folder = tmp_path_factory.mktemp("jobs") / "o'brien & $HOME"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def plain(cluster: Cluster, place: Path, phantom: Path) -> Path:
    """A finished run of one node, with its data staged."""
    words = (f"--data={phantom}", *TRAINING, "--epochs=2", "--run=a plain run", "--name=plain", "--stage")
    job = cluster.submit("train", *words, cwd=place)
    log = place / f"plain-{job}.log"
    assert cluster.wait(job) == [("COMPLETED", "0:0")], text_of(log)
    assert text_of(log).splitlines()[-1] == f"segkit job {job}: finished; the run is a plain run"
    assert f"/segkit-{job}-n" in text_of(log)  # read from the copy
    assert not list(Path(tempfile.gettempdir()).glob(f"segkit-{job}-*"))
    return place / "a plain run"


def state(run: Path) -> dict[str, dict[str, torch.Tensor]]:
    loaded: dict[str, dict[str, torch.Tensor]] = torch.load(run / "checkpoints" / "last.pt", weights_only=True)
    return loaded


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = state(one), state(other)
    assert first["state"]["step"] == second["state"]["step"]
    assert first["net"].keys() == second["net"].keys()
    assert [key for key in first["net"] if not torch.equal(first["net"][key], second["net"][key])] == []


def test_a_job_of_one_node_trains_and_records_where_its_data_came_from(plain: Path, phantom: Path) -> None:
    assert json.loads((plain / "run.json").read_text())["state"] == "finished"
    assert f'data = "{phantom}"' in (plain / "config.toml").read_text()


def test_two_nodes_end_with_the_weights_of_two_ranks_on_one(cluster: Cluster, place: Path, phantom: Path) -> None:
    words = (f"--data={phantom}", *TRAINING, "--epochs=2")
    two = cluster.submit("multinode", *words, "--gpus=1", "--nodes=2", "--run=two nodes", cwd=place)
    ended = cluster.wait(two)
    assert ended == [("COMPLETED", "0:0")], text_of(place / f"segkit-multinode-{two}.log")
    one = cluster.submit("train", *words, "--gpus=2", "--run=one node", cwd=place)
    assert cluster.wait(one) == [("COMPLETED", "0:0")], text_of(place / f"segkit-train-{one}.log")
    assert "on n[1-2]" in text_of(place / f"segkit-multinode-{two}.log")
    assert_same_weights(place / "two nodes", place / "one node")


def test_a_job_at_its_time_limit_requeues_itself_and_ends_as_if_nothing_had_been(
    cluster: Cluster, place: Path, phantom: Path, plain: Path
) -> None:
    epochs = [json.loads(line) for line in (plain / "metrics.jsonl").read_text().splitlines()]
    # Long enough for SLURM, which looks every half a minute whether a limit is near, and the limit set so that a slow
    # machine has its time to save.
    words = (f"--data={phantom}", *TRAINING, f"--epochs={math.ceil(70 / epochs[-1]['seconds'])}")
    job = cluster.submit("train", *words, "--grace=600", "--run=limited", cwd=place)
    whole = cluster.submit("train", *words, "--run=whole", cwd=place)
    log = place / f"segkit-train-{job}.log"
    wait_for(lambda: "\nepoch 3/" in text_of(log))
    cluster.run("scontrol", "update", f"JobId={job}", "TimeLimit=9")
    wait_for(lambda: "requeued (start 2 follows)" in text_of(log))
    wait_for(lambda: cluster.show(job)["JobState"] in ("PENDING", "RUNNING"))
    cluster.run("scontrol", "update", f"JobId={job}", "TimeLimit=30")
    assert cluster.wait(job, whole) == [("COMPLETED", "0:0")] * 2, text_of(log)
    assert cluster.show(job)["Restarts"] == "1"
    assert "the time limit came, the state is saved in limited; requeued" in text_of(log)
    assert ", resumed at epoch " in text_of(log)
    assert_same_weights(place / "limited", place / "whole")


def test_scancel_in_mid_epoch_leaves_a_checkpoint_and_the_reason(cluster: Cluster, place: Path, phantom: Path) -> None:
    words = (f"--data={phantom}", *TRAINING, "--epochs=1000", "--run=cancelled", "--stage")
    job = cluster.submit("train", *words, cwd=place)
    log = place / f"segkit-train-{job}.log"
    wait_for(lambda: "\nepoch 2/" in text_of(log))
    cluster.run("scancel", job)
    wait_for(lambda: "SLURM ended the job" in text_of(log))
    assert "exit code 75" in text_of(log).splitlines()[-1]
    assert "submit the same again with --run cancelled" in text_of(log).splitlines()[-1]
    saved = state(place / "cancelled")["state"]
    assert saved["epoch"] >= 2
    assert cluster.wait(job)[0][0] == "CANCELLED"
    wait_for(lambda: not list(Path(tempfile.gettempdir()).glob(f"segkit-{job}-*")))


def test_a_failing_task_of_an_array_names_its_scan_and_the_others_are_done(
    cluster: Cluster, place: Path, phantom: Path
) -> None:
    words = [word for word in TRAINING if word != "--no-export"]
    model = cluster.submit("train", f"--data={phantom}", *words, "--epochs=1", "--run=model", cwd=place)
    assert cluster.wait(model) == [("COMPLETED", "0:0")]
    scans = sorted(phantom.glob("*/*_1.tif"))[:5]
    (place / "list").write_text("\n".join([*map(str, scans), "/nowhere/no scan.tif"]) + "\n")
    job = cluster.submit("segment", "list", "--model=model", "--device=cpu", "--tasks=2", cwd=place)
    assert cluster.wait(f"{job}_0", f"{job}_1") == [("COMPLETED", "0:0"), ("FAILED", "2:0")]
    told = text_of(place / f"segkit-segment-{job}_1.log")
    assert "segkit: /nowhere/no scan.tif: " in told
    assert f"segkit job {job}_1: exit code 2: task 1 of 2, 3 scans: some could not be" in told.splitlines()[-1]
    assert sorted(path.name for path in (place / "masks").iterdir()) == [f"{scan.stem}_mask.tif" for scan in scans]


def test_a_node_without_segkit_says_so_and_the_job_fails(cluster: Cluster, place: Path, phantom: Path) -> None:
    words = (f"--data={phantom}", *TRAINING, "--setup=PATH=/usr/bin:/bin", "--image=" if cluster.image else "--name=x")
    job = cluster.submit("train", *words, "--name=without", cwd=place)
    assert cluster.wait(job) == [("FAILED", "127:0")]
    told = text_of(place / f"without-{job}.log")
    assert "segkit is not on PATH" in told
    assert f"segkit job {job}: exit code 127: a command was not found" in told.splitlines()[-1]


def test_a_sweep_is_measured_by_an_array_and_gathered(cluster: Cluster, place: Path, phantom: Path) -> None:
    grid = ("--model=unet,fcn", "--width=2", "--batch=4", "--steps=4", "--repeats=1", "--device=cpu")
    shown = cluster.run(
        "segkit", "bench", "sweep", "-o", "study", f"--data={phantom}", *grid, "--slurm",
        "--sbatch=--cpus-per-task=1 --time=10", cwd=place,
    )  # fmt: skip
    array, gather = [line.split()[1].rstrip(":") for line in shown.splitlines()]
    assert "2 measurements" in shown
    assert cluster.wait(array, gather) == [("COMPLETED", "0:0")] * 2, shown
    rows = [json.loads(line) for line in (place / "study" / "results.jsonl").read_text().splitlines()]
    assert {row["settings"]["model"] for row in rows} == {"unet", "fcn"}
    assert all(row["status"] == "done" and row["images_per_s"] > 0 for row in rows)
    again = cluster.run("segkit", "bench", "sweep", "-o", "study", "--slurm", cwd=place)
    assert again == "all measurements are there\n"
