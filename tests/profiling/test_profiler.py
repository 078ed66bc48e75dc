"""The profiler around plain PyTorch loops that know nothing of segkit, and around loops without PyTorch."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from segkit.profiling import Profiler
from segkit.profiling.analysis import read_ranks, summarise
from segkit.profiling.place import Place
from segkit.profiling.profiler import batch_size
from segkit.profiling.records import PhaseRecord, StepRecord, read_lines, read_rank_infos
from segkit.resources import granted_cpus
from tests.conftest import clean_environment


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_STEP_ID"):
        monkeypatch.delenv(name, raising=False)


def quiet(folder: Path, **options: object) -> Profiler:
    return Profiler(folder, **{"interval": 0, "quiet": True, **options})  # type: ignore[arg-type]


def loader(items: int = 10, batch: int = 4) -> torch.utils.data.DataLoader:
    data = torch.utils.data.TensorDataset(torch.ones(items, 3), torch.zeros(items))
    return torch.utils.data.DataLoader(data, batch_size=batch)


def steps_of(folder: Path) -> list[StepRecord]:
    return read_lines(folder / "steps-rank0.jsonl", StepRecord)


def phases_of(folder: Path) -> list[PhaseRecord]:
    return read_lines(folder / "phases-rank0.jsonl", PhaseRecord)


def test_three_lines_around_a_loop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with Profiler(tmp_path / "out", interval=0.1) as p:
        for _ in range(4):
            for x, y in p.watch(loader()):
                loss = (net(x).squeeze(1) - y).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    steps = steps_of(tmp_path / "out")
    assert [(s.epoch, s.step, s.images) for s in steps] == [
        (epoch, 3 * epoch + k + 1, images) for epoch in range(4) for k, images in enumerate((4, 4, 2))
    ]
    assert all(s.compute_s is not None and s.compute_s > 0 for s in steps)
    assert (steps[0].copy_s, steps[0].optim_s, steps[0].sync_s) == (None, None, None)  # nobody told them apart
    info = read_rank_infos(tmp_path / "out")[0]
    assert (info.workers, info.device, info.threads) == (0, "cpu", torch.get_num_threads())
    summary = summarise(tmp_path / "out")
    assert summary.verdict is not None
    assert summary.hosts  # it was sampled
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"profile: {summary.verdict.sentence} (segkit report {tmp_path / 'out'})\n"


def test_parts_that_are_told_apart(tmp_path: Path) -> None:
    class SlowStep(torch.optim.SGD):
        def step(self, closure: object = None) -> None:
            time.sleep(0.008)

    net = torch.nn.Linear(3, 1)
    optimizer = SlowStep(net.parameters(), lr=0.1)
    with quiet(tmp_path) as p:
        p.attach(model=net, optimizer=optimizer)
        for x, _ in p.watch(loader()):
            with p.copying():
                time.sleep(0.004)
            net(x).sum().backward()
            time.sleep(0.002)
            optimizer.step()
            time.sleep(0.001)
    for s in steps_of(tmp_path):
        assert s.copy_s is not None
        assert s.copy_s >= 0.004
        assert s.compute_s is not None
        assert s.compute_s >= 0.003  # before and after the optimiser
        assert s.optim_s is not None
        assert s.optim_s >= 0.008
        assert s.sync_s is None  # one rank has nothing to exchange
        assert s.period_s == pytest.approx(s.step_s, rel=0.1)
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    assert not any(getattr(q, "_post_accumulate_grad_hooks", None) for q in net.parameters())


def test_what_happens_between_epochs_is_a_phase(tmp_path: Path) -> None:
    with quiet(tmp_path) as p:
        time.sleep(0.05)  # building the net
        began = time.perf_counter()
        for _ in range(2):
            for _ in p.watch([1, 2]):
                time.sleep(0.002)
            with p.phase("validate"):
                time.sleep(0.02)
            time.sleep(0.01)
    elapsed = time.perf_counter() - began
    steps, phases = steps_of(tmp_path), phases_of(tmp_path)
    assert [(q.phase, q.epoch) for q in phases] == [("validate", 0), ("other", 0), ("validate", 1)]
    assert phases[0].seconds >= 0.02
    assert phases[1].seconds >= 0.01
    assert steps[0].step_s < 0.05  # what came before the loop is no part of its first step
    covered = sum(s.step_s for s in steps) + sum(q.seconds for q in phases)
    assert elapsed - 0.012 * 2 <= covered + 0.01 < elapsed + 0.01  # all but the last sleep, outside of any step


def test_the_number_of_an_epoch_can_be_given(tmp_path: Path) -> None:
    with quiet(tmp_path) as p:
        for epoch in (7, 8):
            for _ in p.watch([1], epoch=epoch):
                pass
    assert [s.epoch for s in steps_of(tmp_path)] == [7, 8]
    assert [(q.phase, q.epoch) for q in phases_of(tmp_path)] == [("other", 7)]


def test_the_wait_for_the_loader_is_what_it_took(tmp_path: Path) -> None:
    def slow() -> Iterator[int]:
        for k in range(4):
            time.sleep(0.01)
            yield k

    with quiet(tmp_path) as p:
        for _ in p.watch(slow()):
            pass
    steps = steps_of(tmp_path)
    assert all(s.wait_s >= 0.01 and s.starved_s >= 0.01 for s in steps)
    assert all(s.wait_cpu_s < 0.009 for s in steps)


def test_a_loop_that_stops_early_has_its_last_step(tmp_path: Path) -> None:
    with quiet(tmp_path) as p:
        for _ in p.watch(loader(100)):
            break
        for k, _ in enumerate(p.watch(loader(100))):
            if k == 2:
                break
    assert [(s.epoch, s.step) for s in steps_of(tmp_path)] == [(0, 1), (1, 2), (1, 3), (1, 4)]


def test_an_error_in_the_loop_stays_the_error_and_its_steps_are_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def train() -> None:
        with Profiler(tmp_path, interval=0) as p:
            for k, _ in enumerate(p.watch(loader())):
                if k == 1:
                    raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()
    assert [s.step for s in steps_of(tmp_path)] == [1, 2]
    assert capsys.readouterr().err == ""


def test_an_error_in_the_loader_is_passed_on(tmp_path: Path) -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise OSError("planted")

    with pytest.raises(OSError, match="planted"), quiet(tmp_path) as p:
        for _ in p.watch(broken()):
            pass
    assert [s.step for s in steps_of(tmp_path)] == [1]


def test_a_program_that_never_came_to_a_step_does_not_fail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Profiler(tmp_path / "out", interval=0):
        pass
    assert capsys.readouterr().err.startswith(f"profile: {tmp_path / 'out'}: has no profile records")


def test_a_second_run_replaces_the_first_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "rank.json").write_text("{}")
    for length in (9, 2):
        with quiet(tmp_path, interval=0.05) as p:
            for _ in p.watch(range(length)):
                pass
    assert len(steps_of(tmp_path)) == 2
    assert (tmp_path / "notes.txt").exists()
    assert (tmp_path / "rank.json").exists()


def test_a_resumed_run_goes_on_after_the_first(tmp_path: Path) -> None:
    for number in (1, 2):
        with quiet(tmp_path, resume=True) as p:
            p.clock.switch("compute")
            p.clock.end_step(0, number, 8)
    assert [s.step for s in read_ranks(tmp_path)[0].steps] == [1, 2]


def test_workers_are_learnt_from_the_loader_with_a_known_device_too(tmp_path: Path) -> None:
    with quiet(tmp_path, device="cpu") as p:
        assert read_rank_infos(tmp_path)[0].workers is None
        for _ in p.watch(loader()):
            pass
        assert read_rank_infos(tmp_path)[0].workers == 0


def test_the_live_line_tells_the_stall_share(tmp_path: Path) -> None:
    with quiet(tmp_path) as p:
        for _ in p.watch(range(3)):
            time.sleep(0.001)
        p.clock.flush()
        assert p.live() == f"stall {p.clock.recent.starved:5.1%}"


def test_without_a_gpu_the_live_line_tells_the_cpus(tmp_path: Path) -> None:
    with quiet(tmp_path, device="cpu", interval=0.1) as p:
        until = time.monotonic() + 20
        while "cpu" not in p.live() and time.monotonic() < until:
            time.sleep(0.01)
        assert re.fullmatch(rf"stall  0\.0%  cpu \d\.\d/{granted_cpus()}", p.live())


@pytest.mark.parametrize(
    ("batch", "images"),
    [
        (torch.ones(5, 3), 5),
        ((torch.ones(6, 3), torch.ones(2)), 6),
        ([torch.ones(6, 3), torch.ones(2)], 6),
        ({"name": ["a", "b"], "image": torch.ones(2, 3)}, 2),
        (["a", "b", "c"], 3),
        ((["a", "b"], torch.ones(2)), 2),
        (torch.tensor(3.0), 1),
        (17, 1),
        ("text", 1),
    ],
)
def test_the_size_of_a_batch(batch: object, images: int) -> None:
    assert batch_size(batch) == images


def test_ranks_are_found_in_the_variables_of_their_launchers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Place.from_environment().rank == 0
    assert Place.from_environment().world == 1
    for name, value in {"SLURM_STEP_ID": "0", "SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1"}.items():
        monkeypatch.setenv(name, value)
    place = Place.from_environment()
    assert (place.rank, place.world, place.local_rank) == (5, 8, 1)
    for name, value in {"RANK": "2", "WORLD_SIZE": "4", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)  # torchrun inside a SLURM step
    place = Place.from_environment()
    assert (place.rank, place.world, place.local_rank) == (2, 4, 0)


WITHOUT_TORCH = """
import sys
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "lightning"):
            raise ImportError("torch is not here")
sys.meta_path.insert(0, NoTorch())
from segkit.profiling import Profiler
with Profiler("out", interval=0.05) as p:
    for batch in p.watch([[1, 2, 3]] * 20):
        pass
    with p.phase("validate"):
        pass
print(sorted(name for name in sys.modules if name.partition(".")[0] == "torch"))
"""


def test_neither_torch_nor_a_gpu_is_needed(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH], cwd=tmp_path, env=clean_environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"
    steps = steps_of(tmp_path / "out")
    assert [s.images for s in steps] == [3] * 20
    assert json.loads((tmp_path / "out" / "rank0.json").read_text())["threads"] == 1  # as granted
