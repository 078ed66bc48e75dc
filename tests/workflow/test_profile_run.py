"""The stall analysis on the project's own training, in this process, on a small phantom."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from segkit.profiling.analysis import summarise
from segkit.profiling.records import read_rank_infos
from segkit.profiling.stalls.measure import Feed
from segkit.profiling.summary import Interval, WorkerPoint
from segkit.training.config import TrainConfig
from segkit.training.dataset import TrainingData, open_dataset
from segkit.training.distributed import World
from segkit.workflow.choose_workers import describe_curve, with_workers
from segkit.workflow.describe import resolve, with_frame
from segkit.workflow.profile_run import ProfileOptions, profile_run
from segkit.workflow.training_workload import TrainingWorkload

ALONE = World(0, 1, 1, torch.device("cpu"))


@pytest.fixture(autouse=True)
def one_cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nets as tiny as these lose much to a second thread on a busy machine."""
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    monkeypatch.delenv("SEGKIT_CACHE", raising=False)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def config_for(phantom: Path, **settings: object) -> TrainConfig:
    plain = {"model": "unet", "width": 2, "batch": 4, "data": str(phantom), "loader": "files", "workers": 0}
    return TrainConfig().replace(**{**plain, **settings})


def opened(config: TrainConfig, runs: Path) -> tuple[TrainConfig, TrainingData]:
    config = resolve(config, ALONE)
    data = open_dataset(config.data, runs=runs, device=ALONE.device, seed=0)
    return with_frame(config, data), data


@pytest.fixture
def workload(phantom: Path, tmp_path: Path) -> TrainingWorkload:
    config, data = opened(config_for(phantom), tmp_path)
    return TrainingWorkload(config, ALONE, data, runs=tmp_path)


def test_a_workload_trains_on_every_feed(workload: TrainingWorkload) -> None:
    batches_a_pass = -(-len(workload.rows) // 4)
    assert batches_a_pass < 12
    for feed in (Feed(), Feed("files", 0), Feed("files", 1), Feed("packed", 0), Feed("resident", 0)):
        passes: list[int] = []
        before = [p.detach().clone() for p in workload.learner.net.parameters()]
        steps = workload.steps(feed, lambda passes=passes: passes.append(1))
        records = [next(steps) for _ in range(12)]
        steps.close()  # type: ignore[attr-defined]
        assert any(not torch.equal(p, q) for p, q in zip(before, workload.learner.net.parameters(), strict=True))
        for record in records:
            assert record.compute_s is not None
            assert record.compute_s > 0
            assert record.optim_s is not None
            assert record.wait_s <= record.step_s
        assert len(passes) == (0 if feed.synthetic else -(-12 // batches_a_pass))


def test_synthetic_batches_cost_no_loading(workload: TrainingWorkload) -> None:
    steps = workload.steps(Feed(), lambda: None)
    records = [next(steps) for _ in range(12)]
    assert sum(record.wait_s for record in records) < 0.1 * sum(record.step_s for record in records)
    assert {record.images for record in records} == {4}


def test_what_each_loader_reads(workload: TrainingWorkload, phantom: Path, tmp_path: Path) -> None:
    files = {path.resolve() for path in workload.files("files")}
    assert files == {path.resolve() for path in phantom.glob("*/*.tif")}
    (packed,) = workload.files("packed")
    assert packed.is_relative_to(tmp_path)
    assert list(workload.files("resident")) == []


def test_decoding_costs_more_than_copying_from_the_cache(workload: TrainingWorkload) -> None:
    assert workload.load_seconds("files") > 2 * workload.load_seconds("packed")


def test_the_analysis_leaves_all_that_the_report_needs(phantom: Path, tmp_path: Path) -> None:
    said: list[str] = []
    folder = tmp_path / "runs" / "profile"
    options = ProfileOptions(seconds=0.3, counts=(0, 1))
    differential = profile_run(config_for(phantom), ALONE, folder, options, said.append)
    assert {path.name for path in (folder / "profile").iterdir()} >= {
        "differential.json", "job.json", "rank0.json", "steps-rank0.jsonl",
    }  # fmt: skip
    summary = summarise(folder)
    assert summary.differential == differential
    assert summary.verdict is not None
    assert summary.steps >= 6  # two turns of three at least
    assert summary.description["net"]
    tried = [(p.loader, p.workers) for p in differential.curve if p.images_per_s]
    assert tried == [("files", 0), ("files", 1), ("packed", 0), ("resident", 0)]
    assert differential.settings["batch"] == 4
    assert differential.settings["on_cpu"] is True
    assert read_rank_infos(folder / "profile")[0].workers == 0
    assert any("cold page cache" in text for text in said)
    # Net and loader are real: what the pipeline gives is no more than the net alone.
    assert differential.stalls.warm.value < 1.3 * differential.stalls.compute.value


def test_a_profile_with_workers_auto_starts_from_the_default(phantom: Path, tmp_path: Path) -> None:
    options = ProfileOptions(seconds=0.1, counts=(0,), cold=False)
    differential = profile_run(config_for(phantom, workers="auto"), ALONE, tmp_path / "p", options, lambda _: None)
    assert all(point.workers >= 0 for point in differential.curve)
    assert differential.settings["workers"] == 1  # of `files` on one CPU


def test_a_number_of_workers_is_left_alone(phantom: Path, tmp_path: Path) -> None:
    config, data = opened(config_for(phantom, workers=3), tmp_path)
    assert with_workers(config, ALONE, data, tmp_path) is config


def test_a_resident_set_needs_no_workers(phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, data = opened(config_for(phantom, workers="auto"), tmp_path)
    resident = config.replace(loader="resident", workers="auto")
    assert with_workers(resident, ALONE, data, tmp_path).data.workers == 0
    assert capsys.readouterr().out == ""


def test_the_curve_in_a_line() -> None:
    curve = [WorkerPoint(0, Interval(310.2), None, "files"), WorkerPoint(1, Interval(402.0), None, "files", True)]
    assert describe_curve(curve) == "0: 310.2, 1: 402 images/s; taking 1"
