"""A run that is killed at any moment and resumed ends with the weights of an uninterrupted one, bit for bit."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from segkit.training.config import OptimConfig
from segkit.training.optim import learning_rate
from tests.conftest import Run, clean_environment, metrics

SETTINGS = [
    "--model",
    "unet",
    "--width",
    "4",
    "--epochs",
    "3",
    "--batch",
    "4",
    "--checkpoint-seconds",
    "0",
    "--no-export",
]


def command(phantom: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "segkit", "train", "--data", str(phantom), *SETTINGS, *words]


def weights(run: Path, epochs: int = 3) -> dict[str, torch.Tensor]:
    values = torch.load(run / "checkpoints" / "last.pt", weights_only=True)
    assert values["state"]["epoch"] == epochs
    return {**values["net"], **{f"average.{k}": v for k, v in values["average"].items()}}


def assert_same_run(one: Path, other: Path, epochs: int = 3) -> None:
    first, second = weights(one, epochs), weights(other, epochs)
    assert first.keys() == second.keys()
    assert [key for key in first if not torch.equal(first[key], second[key])] == []

    def lines(run: Path) -> list[dict[str, float]]:
        return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_s", "stall")} for row in metrics(run)]

    assert lines(one) == lines(other)


@pytest.fixture(scope="module")
def uninterrupted(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    subprocess.run(
        command(phantom, "--run", "run"), cwd=folder, env=clean_environment(), check=True, capture_output=True
    )
    return folder / "run"


def interrupt(phantom: Path, folder: Path, number: int, *words: str, at_step: int) -> subprocess.CompletedProcess[str]:
    """Start a run and send a signal once it has saved `at_step` steps."""
    process = subprocess.Popen(
        command(phantom, *words, "--run", "run", "--resume"),
        cwd=folder,
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and saved_step(folder / "run") < at_step:
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def saved_step(run: Path) -> int:
    try:
        return int(torch.load(run / "checkpoints" / "last.pt", weights_only=True)["state"]["step"])
    except FileNotFoundError:
        return 0


def resume(phantom: Path, folder: Path) -> None:
    words = command(phantom, "--run", "run", "--resume")
    subprocess.run(words, cwd=folder, env=clean_environment(), check=True, capture_output=True)


def test_killed_twice_and_resumed(phantom: Path, tmp_path: Path, uninterrupted: Path) -> None:
    for step in (3, 13):  # in the middle of epochs: an epoch has 9 steps
        assert interrupt(phantom, tmp_path, signal.SIGKILL, at_step=step).returncode == -signal.SIGKILL
        assert not (tmp_path / "run" / "model.onnx").exists()
    resume(phantom, tmp_path)
    assert_same_run(tmp_path / "run", uninterrupted)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_asked_to_stop_it_saves_and_says_how_to_go_on(
    phantom: Path, tmp_path: Path, uninterrupted: Path, number: int
) -> None:
    stopped = interrupt(phantom, tmp_path, number, at_step=5)
    assert stopped.returncode == 75
    assert stopped.stderr.count("\n") == 1
    told = stopped.stderr.strip().split("or with: segkit ")[1]
    words = [sys.executable, "-m", "segkit", *told.split()]
    subprocess.run(words, cwd=tmp_path, env=clean_environment(), check=True, capture_output=True)
    assert_same_run(tmp_path / "run", uninterrupted)


def test_killed_before_the_first_checkpoint_it_begins_again(phantom: Path, tmp_path: Path, uninterrupted: Path) -> None:
    process = subprocess.Popen(command(phantom, "--run", "run"), cwd=tmp_path, env=clean_environment())
    while not (tmp_path / "run" / "config.toml").exists():
        time.sleep(0.005)
    process.kill()
    process.wait()
    (tmp_path / "run" / "checkpoints" / "last.pt").unlink(missing_ok=True)
    resume(phantom, tmp_path)
    assert_same_run(tmp_path / "run", uninterrupted)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    segkit: Run, phantom: Path, tmp_path: Path, uninterrupted: Path
) -> None:
    again = segkit("train", "--data", phantom, *SETTINGS, "--run", "again", "--workers", "2", "--loader", "files")
    assert again.returncode == 0, again.stderr
    assert_same_run(tmp_path / "again", uninterrupted)
    other = segkit("train", "--data", phantom, *SETTINGS, "--run", "other", "--seed", "1")
    assert other.returncode == 0, other.stderr
    first, second = weights(tmp_path / "other"), weights(uninterrupted)
    assert any(not torch.equal(first[key], second[key]) for key in first)


def test_a_finished_run_is_trained_for_longer_where_more_epochs_are_asked_for(
    segkit: Run, phantom: Path, tmp_path: Path, uninterrupted: Path
) -> None:
    """Also where that is stopped, and gone on with by the run's name alone."""
    shutil.copytree(uninterrupted, tmp_path / "whole")
    shutil.copytree(uninterrupted, tmp_path / "run")
    (tmp_path / "whole" / "volume.json").write_text("{}")
    same = segkit("train", "--data", phantom, *SETTINGS, "--run", "whole", "--resume")
    assert "finished already" in same.stdout
    longer = segkit("train", "--data", phantom, *SETTINGS, "--epochs", "5", "--run", "whole", "--resume")
    assert longer.returncode == 0, longer.stderr
    assert not (tmp_path / "whole" / "volume.json").exists()
    assert "segkit tune" in longer.stdout
    was, rows = metrics(uninterrupted), metrics(tmp_path / "whole")
    assert rows[:3] == was
    steps = was[0]["step"]
    assert [row["step"] for row in rows] == [steps * number for number in range(1, 6)]
    schedule = [learning_rate(OptimConfig(), steps * number - 1, 5 * steps) for number in (4, 5)]
    assert [row["lr"] for row in rows[3:]] == pytest.approx(schedule)  # that of five epochs, to its end
    stopped = interrupt(phantom, tmp_path, signal.SIGTERM, "--epochs", "5", at_step=3 * steps + 1)
    assert stopped.returncode == 75, stopped.stderr
    done = segkit("train", "--resume", "--run", "run")
    assert done.returncode == 0, done.stderr
    assert_same_run(tmp_path / "run", tmp_path / "whole", epochs=5)


def test_a_run_is_never_overwritten(segkit: Run, phantom: Path, uninterrupted: Path) -> None:
    before = (uninterrupted / "run.json").read_bytes()
    refused = segkit("train", "--data", phantom, *SETTINGS, "--run", uninterrupted)
    assert refused.returncode == 2
    assert "--resume" in refused.stderr
    assert (uninterrupted / "run.json").read_bytes() == before


def test_a_damaged_checkpoint_is_named(segkit: Run, phantom: Path, tmp_path: Path) -> None:
    stopped = interrupt(phantom, tmp_path, signal.SIGTERM, at_step=2)
    assert stopped.returncode == 75
    last = tmp_path / "run" / "checkpoints" / "last.pt"
    last.write_bytes(last.read_bytes()[:1000])
    refused = segkit("train", "--data", phantom, *SETTINGS, "--run", "run", "--resume")
    assert refused.returncode == 2
    assert "last.pt" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.slow
def test_two_ranks_pass_a_signal_on_save_and_resume_alike(phantom: Path, tmp_path: Path) -> None:
    """The signal goes to the launcher alone, as a batch system sends it."""
    ranks = ["--gpus", "2", "--device", "cpu"]
    whole = command(phantom, *ranks, "--run", "whole")
    subprocess.run(whole, cwd=tmp_path, env=clean_environment(), check=True, capture_output=True)
    process = subprocess.Popen(
        command(phantom, *ranks, "--run", "run"),
        cwd=tmp_path,
        env=clean_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and saved_step(tmp_path / "run") < 3:
        time.sleep(0.01)
    process.send_signal(signal.SIGUSR1)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors
    assert "--resume" in errors
    assert "Traceback" not in errors
    refused = subprocess.run(
        command(phantom, "--run", "run", "--resume"),
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
    )
    assert refused.returncode == 2
    assert "2 ranks" in refused.stderr
    again = command(phantom, *ranks, "--run", "run", "--resume")
    subprocess.run(again, cwd=tmp_path, env=clean_environment(), check=True, capture_output=True)
    assert_same_run(tmp_path / "whole", tmp_path / "run")
