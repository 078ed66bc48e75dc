"""The training loop against independent truth: equivalences between ways to train, and faults planted in data."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from segkit.data.phantom import write_phantom
from segkit.training.config import OptimConfig
from segkit.training.losses import DiceCrossEntropy
from segkit.training.optim import AveragedNet, learning_rate, make_optimizer
from tests.conftest import Run, clean_environment, metrics

TINY = ["--model", "unet", "--width", "4", "--batch", "4", "--no-export"]


def last_weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / "last.pt", weights_only=True)["net"]  # type: ignore[no-any-return]


def test_loss_is_cross_entropy_plus_dice() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(2, 3, 8, 8), torch.randint(0, 3, (2, 8, 8))
    loss, dice = DiceCrossEntropy(0.0)(logits, target)
    torch.testing.assert_close(loss, F.cross_entropy(logits, target))
    probability = logits.softmax(1).numpy()
    by_hand = []
    for k in (1, 2):
        p, t = probability[:, k], (target == k).numpy()
        by_hand.append((2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1))
    assert float(dice) == pytest.approx(np.mean(by_hand), rel=1e-5)
    both, _ = DiceCrossEntropy(0.5)(logits, target)
    assert float(both) == pytest.approx(float(loss) + 0.5 * (1 - np.mean(by_hand)), rel=1e-5)


def test_schedule_rises_then_falls_to_a_hundredth() -> None:
    config = OptimConfig(lr=1.0, warmup=0.1)
    rates = [learning_rate(config, step, 100) for step in range(100)]
    assert rates[:10] == sorted(rates[:10])
    assert max(rates) == pytest.approx(1.0)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.01, abs=2e-3)


def test_only_matrices_decay() -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    groups = make_optimizer(net, OptimConfig(weight_decay=0.1), torch.device("cpu")).param_groups
    assert {p.ndim for p in groups[0]["params"]} == {4}
    assert (groups[0]["weight_decay"], groups[1]["weight_decay"]) == (0.1, 0.0)


def test_average_is_the_moving_average_of_weights_and_statistics() -> None:
    net = torch.nn.BatchNorm1d(1)
    average = AveragedNet(net, decay=0.9)
    expected = 0.0
    for step in range(30):
        net.running_mean.fill_(float(step))  # type: ignore[union-attr]
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
        average.update(net, step)
    assert float(average.net.running_mean) == pytest.approx(expected, rel=1e-5)  # type: ignore[arg-type]


def two_ranks(phantom: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "segkit",
        "train",
        "--data",
        str(phantom),
        "--gpus",
        "2",
        "--device",
        "cpu",
        *words,
    ]
    return subprocess.run(command, cwd=folder, env=clean_environment(), capture_output=True, text=True, timeout=300)


def test_two_ranks_see_each_slice_once_and_count_each_patient_once(segkit: Run, phantom: Path, tmp_path: Path) -> None:
    done = two_ranks(phantom, tmp_path, *TINY, "--epochs", "2", "--run", "two")
    assert done.returncode == 0, done.stderr
    one = segkit("train", "--data", phantom, *TINY, "--epochs", "2", "--run", "one")
    assert one.returncode == 0, one.stderr
    assert [row["images"] for row in metrics(tmp_path / "two")] == [row["images"] for row in metrics(tmp_path / "one")]
    assert done.stdout.count("epoch 1/2") == 1  # one rank speaks
    records = [
        [json.loads(line) for line in (tmp_path / "two" / "profile" / f"steps-rank{r}.jsonl").read_text().splitlines()]
        for r in (0, 1)
    ]
    assert len(records[0]) == len(records[1])
    assert sum(r["images"] for rank in records for r in rank) == 2 * metrics(tmp_path / "one")[0]["images"]


def test_tensorboard_reads_what_the_metrics_say(segkit: Run, phantom: Path, tmp_path: Path) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    done = segkit("train", "--data", phantom, *TINY, "--epochs", "2", "--run", "seen", "--tensorboard")
    assert done.returncode == 0, done.stderr
    board = event_accumulator.EventAccumulator(str(tmp_path / "seen" / "tensorboard")).Reload()
    tags = {
        "train/loss": "train_loss",
        "val/loss": "val_loss",
        "val/dice": "val_dice",
        "speed/images_per_s": "images_per_s",
        "speed/stall": "stall",
    }
    assert set(tags) <= set(board.Tags()["scalars"])
    for tag, key in tags.items():
        read = [(event.step, event.value) for event in board.Scalars(tag)]
        assert read == [(row["step"], pytest.approx(row[key], rel=1e-6)) for row in metrics(tmp_path / "seen")], tag


def test_a_loss_that_is_no_number_stops_with_step_files_and_checkpoint(
    segkit: Run, phantom: Path, tmp_path: Path
) -> None:
    diverging = ["--model", "fcn-plain", "--width", "4", "--epochs", "9", "--lr", "10", "--clip", "0"]
    stopped = segkit("train", "--data", phantom, *diverging, "--no-export", "--run", "run")
    if stopped.returncode == 0:
        pytest.fail("the planted overflow did not happen")
    assert stopped.returncode == 2, stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert "at step" in stopped.stderr
    assert ".tif" in stopped.stderr
    assert "last good checkpoint" in stopped.stderr


def test_one_unreadable_slice_stops_at_the_start_or_is_left_out(segkit: Run, tmp_path: Path) -> None:
    data = tmp_path / "data"
    write_phantom(data, patients=6, slices=4, size=64)
    broken = sorted(data.glob("*/*_2_mask.tif"))[1]
    Image.new("L", (64, 64), 77).save(broken)
    stopped = segkit("train", "--data", data, *TINY, "--epochs", "1", "--run", "run")
    assert stopped.returncode == 2
    assert broken.name in stopped.stderr
    assert stopped.stderr.count("\n") == 1
    assert not (tmp_path / "run" / "run.json").exists()
    done = segkit("train", "--data", data, *TINY, "--epochs", "1", "--run", "run", "--skip-bad")
    assert done.returncode == 0, done.stderr
    assert f"left out: {broken}" in done.stderr


def test_cuda_asked_for_and_absent_is_one_line(segkit: Run, phantom: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    refused = segkit("train", "--data", phantom, *TINY, "--device", "cuda")
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "--device cpu" in refused.stderr
