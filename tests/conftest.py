"""Shared fixtures. Real data are used where they lie beside the checkout, and skipped elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from segkit.data.phantom import write_phantom

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small phantom dataset: 8 patients of 6 slices, 64 x 64."""
    folder = tmp_path_factory.mktemp("data") / "phantom"
    write_phantom(folder, patients=8, slices=6, size=64)
    return folder


@pytest.fixture
def shared() -> Path:
    """The folder of real data; the test is skipped without it."""
    if not SHARED.is_dir():
        pytest.skip("no real data beside the checkout")
    return SHARED


def metrics(run: Path) -> list[dict[str, float]]:
    """The lines of a run's `metrics.jsonl`, one an epoch."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def clean_environment() -> dict[str, str]:
    """The environment without what would change a run, and with a grant of one CPU.

    Nets as tiny as the tests' gain nothing from a second thread, and lose much to it on a busy machine.
    """
    dropped = ("SLURM_", "SEGKIT_", "TORCHELASTIC", "RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(dropped)}
    return {**kept, "PYTHONPATH": str(ROOT), "SLURM_CPUS_PER_TASK": "1"}


@pytest.fixture
def segkit(tmp_path: Path) -> Run:
    """Run the command line as a process of its own, in the test's folder."""

    def run(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "segkit", *map(str, words)],
            cwd=tmp_path,
            env={**clean_environment(), **environment},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


@pytest.fixture(scope="session")
def trained(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a tiny U-Net, evaluated and exported."""
    folder = tmp_path_factory.mktemp("trained")
    quick = ["--width", "2", "--epochs", "2", "--batch", "8", "--lr", "0.01"]
    words = ["train", "--model", "unet", *quick, "--data", str(phantom), "--run", "run"]
    command = [sys.executable, "-m", "segkit", *words]
    subprocess.run(command, cwd=folder, env=clean_environment(), check=True, capture_output=True)
    return folder / "run"
