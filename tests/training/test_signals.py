"""SLURM's warning, whenever it comes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from segkit.training.signals import StopSignals, warning_remembered
from tests.conftest import clean_environment

SETTINGS = ("--model=unet", "--width=2", "--batch=4", "--device=cpu", "--no-export", "--run=run")


def test_a_warning_before_the_first_step_counts_at_the_first_step() -> None:
    with warning_remembered():
        os.kill(os.getpid(), signal.SIGUSR1)
        with StopSignals() as early:
            assert early.name == "SIGUSR1"
    with warning_remembered(), StopSignals() as later:
        assert later.name == ""
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def catches(pid: int, number: int) -> bool:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    return False


def test_a_process_that_still_starts_saves_after_its_first_step(phantom: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "segkit", "train", f"--data={phantom}", *SETTINGS, "--epochs=500"]
    process = subprocess.Popen(words, cwd=tmp_path, env=clean_environment(), stderr=subprocess.PIPE, text=True)
    while not catches(process.pid, signal.SIGUSR1):
        time.sleep(0.005)
    assert not (tmp_path / "run").exists()
    process.send_signal(signal.SIGUSR1)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 75, errors
    assert "stopped by SIGUSR1 at epoch 1, step 1;" in errors
    assert torch.load(tmp_path / "run" / "checkpoints" / "last.pt", weights_only=True)["state"]["step"] == 1


@pytest.mark.slow
def test_the_launcher_passes_every_signal_on_and_outlives_its_ranks(phantom: Path, tmp_path: Path) -> None:
    """SLURM signals the job's processes, and what started them passes the signal on once more."""
    words = [sys.executable, "-m", "segkit", "train", f"--data={phantom}", *SETTINGS, "--epochs=500", "--gpus=2"]
    process = subprocess.Popen(words, cwd=tmp_path, env=clean_environment(), stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "run" / "checkpoints" / "last.pt").exists():
        time.sleep(0.05)
    for _ in range(5):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.01)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 75, errors
    assert "Traceback" not in errors
    assert torch.load(tmp_path / "run" / "checkpoints" / "last.pt", weights_only=True)["state"]["epoch"] >= 1


@pytest.mark.slow
def test_a_rank_that_is_killed_gives_its_code_to_the_launcher(phantom: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "segkit", "train", f"--data={phantom}", *SETTINGS, "--epochs=500", "--gpus=2"]
    process = subprocess.Popen(words, cwd=tmp_path, env=clean_environment(), stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "run" / "checkpoints" / "last.pt").exists():
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    ranks = [pid for pid in children if b"LOCAL_RANK=" in Path(f"/proc/{pid}/environ").read_bytes()]
    os.kill(int(ranks[-1]), signal.SIGKILL)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 137, errors
    assert "SIGKILL, most often for want of memory" in errors
