"""Real fits of a tiny module, with both names of the package."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from segkit.profiling.analysis import read_ranks, summarise
from segkit.profiling.records import PhaseRecord, StepRecord, read_lines, read_rank_infos
from tests.conftest import clean_environment

lightning = pytest.importorskip("lightning.pytorch")
from segkit.profiling.lightning import ProfilerCallback  # noqa: E402

ITEM, FORWARD, VALIDATE, STEP = 0.004, 0.015, 0.03, 0.015  # seconds


class Sleepy(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> torch.Tensor:
        time.sleep(ITEM)
        return torch.full((3,), float(index))


class SlowStep(torch.optim.SGD):
    def step(self, closure: Any = None) -> Any:
        loss = closure()
        time.sleep(STEP)  # before the update: PyTorch may call the hooks after SGD's own step already
        super().step()
        return loss


class Module(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Linear(3, 1)
        self.fails_at = -1

    def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
        if self.global_step == self.fails_at:
            raise ValueError("planted")
        time.sleep(FORWARD)
        return self.net(batch).square().mean()

    def validation_step(self, batch: torch.Tensor, index: int) -> None:
        time.sleep(VALIDATE)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return SlowStep(self.parameters(), lr=1e-6)


def loader(batch: int = 4) -> torch.utils.data.DataLoader:
    return torch.utils.data.DataLoader(Sleepy(), batch_size=batch)


def fit(folder: Path, module: Any = None, *, package: Any = lightning, **settings: Any) -> Any:
    callback = ProfilerCallback(folder / "out", interval=0, quiet=True)
    plain = {"max_epochs": 2, "accelerator": "cpu", "logger": False, "enable_progress_bar": False}
    quiet = {"enable_model_summary": False, "default_root_dir": folder, "callbacks": [callback]}
    trainer = package.Trainer(**{**plain, **quiet, **settings})
    trainer.fit(module or Module(), loader(), loader(10))
    return trainer


def phases(folder: Path) -> list[PhaseRecord]:
    return read_lines(folder / "out" / "phases-rank0.jsonl", PhaseRecord)


def test_a_fit_is_timed_by_its_parts(tmp_path: Path) -> None:
    began = time.perf_counter()
    fit(tmp_path)
    elapsed = time.perf_counter() - began
    steps = read_lines(tmp_path / "out" / "steps-rank0.jsonl", StepRecord)
    assert [s.step for s in steps] == list(range(1, 11))
    assert [s.epoch for s in steps] == [0] * 5 + [1] * 5
    assert [s.images for s in steps] == [4] * 10
    for s in steps:
        assert None not in (s.copy_s, s.compute_s, s.optim_s, s.gap_s)
        assert s.wait_s >= 4 * ITEM
        assert s.compute_s >= FORWARD
        assert s.optim_s >= STEP
    # What is slept for in one part is not counted in another; the quickest step is the least disturbed one.
    assert min(s.wait_s for s in steps) < 4 * ITEM + FORWARD + STEP
    assert min(s.compute_s for s in steps if s.compute_s) < FORWARD + STEP
    assert min(s.optim_s for s in steps if s.optim_s) < STEP + FORWARD
    named = phases(tmp_path)
    assert [p.epoch for p in named if p.phase == "validate"] == [0, 1]
    assert all(p.seconds >= 2 * VALIDATE for p in named if p.phase == "validate")
    assert len([p for p in named if p.phase == "checkpoint"]) == 2
    summary = summarise(tmp_path / "out")
    assert summary.seconds == pytest.approx(sum(s.step_s for s in steps) + sum(p.seconds for p in named))
    assert summary.seconds < elapsed
    assert summary.verdict is not None
    assert read_rank_infos(tmp_path / "out")[0].workers == 0


def test_validation_in_the_middle_of_an_epoch_is_no_wait(tmp_path: Path) -> None:
    fit(tmp_path, max_epochs=1, val_check_interval=2, enable_checkpointing=False)
    steps = read_ranks(tmp_path / "out")[0].steps
    assert len([p for p in phases(tmp_path) if p.phase == "validate"]) == 2
    assert all(s.gap_s is not None and s.gap_s - s.wait_s < 2 * VALIDATE for s in steps)
    assert all(s.wait_s < 4 * ITEM + 2 * VALIDATE for s in steps)


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    module = Module()
    trainer = fit(tmp_path, module)
    assert not {"start", "stop"} & set(vars(trainer.profiler))
    assert not any(optimizer._optimizer_step_post_hooks for optimizer in trainer.optimizers)
    trainer.validate(module, loader(10), verbose=False)  # outside of a fit there is nothing to time
    assert len([p for p in phases(tmp_path) if p.phase == "validate"]) == 2


def test_an_error_in_the_module_stays_the_error_and_the_steps_are_kept(tmp_path: Path) -> None:
    module = Module()
    module.fails_at = 3
    with pytest.raises(ValueError, match="planted"):
        fit(tmp_path, module)
    assert [s.step for s in read_ranks(tmp_path / "out")[0].steps] == [1, 2, 3]


def test_lightnings_own_profiler_goes_on_as_before(tmp_path: Path) -> None:
    own = lightning.profilers.SimpleProfiler()
    fit(tmp_path, max_epochs=1, profiler=own)
    durations = {name.rpartition(".")[2]: seconds for name, seconds in own.recorded_durations.items()}
    assert len(durations["train_dataloader_next"]) >= 5
    assert len(read_ranks(tmp_path / "out")[0].steps) == 5


OLD_NAME = """
import pytorch_lightning, runpy, sys
from pathlib import Path
from segkit.profiling.lightning import ProfilerCallback
assert issubclass(ProfilerCallback, pytorch_lightning.Callback)
assert "lightning.pytorch" not in sys.modules
import torch
class Module(pytorch_lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(3, 1)
    def training_step(self, batch, index):
        return self.net(batch).mean()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)
trainer = pytorch_lightning.Trainer(
    max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
    callbacks=[ProfilerCallback("out", interval=0)],
)
trainer.fit(Module(), torch.utils.data.DataLoader([torch.ones(3)] * 12, batch_size=1))
"""


def test_the_old_name_of_the_package(tmp_path: Path) -> None:
    pytest.importorskip("pytorch_lightning")
    done = subprocess.run(
        [sys.executable, "-c", OLD_NAME], cwd=tmp_path, env=clean_environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert len(read_ranks(tmp_path / "out")[0].steps) == 12
    assert "profile: " in done.stderr
