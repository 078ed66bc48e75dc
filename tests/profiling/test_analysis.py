"""From records made by hand, whose sums are known, to the summary."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from segkit.errors import FileError
from segkit.profiling.analysis import WARM_UP, profile_folder, read_ranks, settled, steady_rate, summarise
from segkit.profiling.records import (
    DeviceInfo,
    DeviceSample,
    HostSample,
    LineFile,
    Missing,
    PhaseRecord,
    SamplerInfo,
    write_info,
)
from segkit.profiling.summary import PARTS
from tests.profiling.made import START, rank_info, step, write


def two_epochs(rank: int = 0) -> tuple[list, list[PhaseRecord]]:
    """12 steps of 100 ms in each of two epochs, with a validation of 2 s and a checkpoint of 0.5 s after each.

    A step: 30 ms of waiting, of which the device feels 20, 5 copy, 50 compute, 8 sync, 7 optimiser, 10 the host's.
    """
    steps, phases, t = [], [], START
    for epoch in (0, 1):
        for k in range(12):
            parts = {"copy_s": 0.005, "compute_s": 0.05, "sync_s": 0.008, "optim_s": 0.007}
            number = 12 * epoch + k + 1
            steps.append(step(number, epoch=epoch, t=t, wait_s=0.03, wait_cpu_s=0.015, gap_s=0.02, **parts))
            t += 0.1
        phases += [PhaseRecord(t, "validate", epoch, 2.0), PhaseRecord(t + 2, "checkpoint", epoch, 0.5)]
        t += 2.5
    return steps, phases


def test_parts_are_the_sums_of_the_records(tmp_path: Path) -> None:
    write(tmp_path, *two_epochs())
    summary = summarise(tmp_path)
    assert list(summary.parts) == list(PARTS)
    assert summary.parts == pytest.approx(
        {
            "compute": 24 * 0.05,
            "optim": 24 * 0.007,
            "starved": 24 * 0.02,
            "copy": 24 * 0.005,
            "sync": 24 * 0.008,
            "host": 24 * 0.01,
            "validate": 4.0,
            "checkpoint": 1.0,
            "other": 0.0,
        }
    )
    assert summary.seconds == pytest.approx(24 * 0.1 + 5.0)  # the wall time
    assert sum(summary.parts.values()) == pytest.approx(summary.seconds)
    assert summary.share("validate") == pytest.approx(4 / 7.4)
    assert summary.hidden_wait_s == pytest.approx(24 * 0.01)
    assert summary.wait_cpu_share == pytest.approx(0.5)
    assert (summary.steps, summary.images, summary.started) == (24, 192, START)
    assert summary.images_per_s is not None
    assert summary.images_per_s.value == pytest.approx(80.0)  # of the training steps, without validation


def test_epochs_share_out_their_own_time(tmp_path: Path) -> None:
    write(tmp_path, *two_epochs())
    epochs = summarise(tmp_path).epochs
    assert [epoch.epoch for epoch in epochs] == [0, 1]
    assert [epoch.t for epoch in epochs] == pytest.approx([START, START + 3.7])
    for epoch in epochs:
        assert epoch.seconds == pytest.approx(3.7)
        assert sum(epoch.shares.values()) == pytest.approx(1.0)
        assert epoch.shares["starved"] == pytest.approx(12 * 0.02 / 3.7)
        assert epoch.images_per_s == pytest.approx(80.0)


def test_several_ranks_are_averaged_in_time_and_added_in_images(tmp_path: Path) -> None:
    steps, phases = two_epochs()
    write(tmp_path, steps, phases, rank=0)
    slower = [step(s.step, epoch=s.epoch, t=s.t, seconds=0.3) for s in steps]
    write(tmp_path, slower, [], rank=1)
    for rank in (0, 1):
        write_info(tmp_path / f"rank{rank}.json", rank_info(rank, world=2, host=f"node{rank}"))
    summary = summarise(tmp_path)
    assert summary.parts["compute"] == pytest.approx(24 * (0.05 + 0.3) / 2)
    assert summary.parts["validate"] == pytest.approx(2.0)
    assert summary.images == 2 * 192
    assert summary.images_per_s is not None
    assert summary.images_per_s.value == pytest.approx(16 / 0.2)
    assert [rank.rank for rank in summary.ranks] == [0, 1]
    assert [rank.step_s for rank in summary.ranks] == pytest.approx([0.1, 0.3])
    assert summary.description["device"] == "2 x CPU"
    assert summary.description["hosts"] == "node0, node1"
    assert summary.description["workers a rank"] == "0"


def test_ranks_beyond_nine_keep_their_order(tmp_path: Path) -> None:
    for rank in range(12):
        write(tmp_path, [step(1)], rank=rank)
    assert list(read_ranks(tmp_path)) == list(range(12))


def test_a_step_that_a_resumed_run_did_again_counts_once(tmp_path: Path) -> None:
    write(tmp_path, [step(number) for number in range(1, 9)])
    later = START + 3600
    write(tmp_path, [step(number, t=later + number, seconds=0.2) for number in range(6, 11)])
    summary = summarise(tmp_path)
    assert summary.steps == 10
    assert summary.images == 80
    assert summary.parts["compute"] == pytest.approx(5 * 0.1 + 5 * 0.2)
    assert summary.seconds == pytest.approx(1.5)  # the hour between is nobody's
    steps = read_ranks(tmp_path)[0].steps
    assert [s.step for s in steps] == list(range(1, 11))
    assert [s.step_s for s in steps] == [0.1] * 5 + [0.2] * 5


def test_a_killed_run_counts_up_to_its_torn_line(tmp_path: Path) -> None:
    steps, phases = two_epochs()
    write(tmp_path, steps, phases)
    path = tmp_path / "steps-rank0.jsonl"
    path.write_bytes(path.read_bytes()[:-30])
    assert summarise(tmp_path).steps == 23


def test_a_rank_that_was_killed_in_its_first_step_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, [step(1)], rank=0)
    (tmp_path / "steps-rank1.jsonl").write_text('{"t":')
    assert list(read_ranks(tmp_path)) == [0]


def test_the_first_steps_of_an_epoch_do_not_count_for_the_steady_rate(tmp_path: Path) -> None:
    steps = []
    for epoch in (0, 1):
        for k in range(4 * WARM_UP):
            steps.append(step(len(steps) + 1, epoch=epoch, seconds=5.0 if k < WARM_UP else 0.1))
    write(tmp_path, steps)
    rate = steady_rate(read_ranks(tmp_path))
    assert rate is not None
    assert rate.value == pytest.approx(80.0)
    assert len(settled(steps)) == 2 * 3 * WARM_UP
    short = steps[: 4 * WARM_UP - 1]
    assert settled(short) == short  # too few to leave any out


def test_without_samples_that_is_said(tmp_path: Path) -> None:
    write(tmp_path, *two_epochs())
    summary = summarise(tmp_path)
    assert summary.missing == [Missing("samples of the devices and the host", "the sampler was off")]
    assert (summary.devices, summary.hosts, summary.energy) == ([], [], None)
    assert summary.verdict is not None


def sampled(folder: Path) -> None:
    """A node with one GPU that draws 100 W, sampled each second for ten seconds."""
    device = DeviceInfo("GPU-1", "NVIDIA H100", memory_total=2**30)
    missing = [Missing("DRAM activity", "not supported")]
    write_info(folder / "sampler-node1.json", SamplerInfo("node1", 1.0, 8, "570", [device], missing))
    gpu, host = LineFile(folder / "gpu-node1.jsonl"), LineFile(folder / "host-node1.jsonl")
    for k in range(11):
        throttle = ["power cap"] if k == 0 else []
        util = None if k == 10 else 0.5
        gpu.add(
            DeviceSample(START + k, "GPU-1", util=util, memory=k, power=100.0, temperature=40 + k, throttle=throttle)
        )
        host.add(HostSample(START + k, cpu_main=1.5))
    gpu.flush()
    host.flush()


def test_samples_are_summarised(tmp_path: Path) -> None:
    write(tmp_path, *two_epochs())
    sampled(tmp_path)
    summary = summarise(tmp_path)
    (device,), (host,) = summary.devices, summary.hosts
    assert (device.util, device.sm, device.memory_peak, device.temperature_max) == (0.5, None, 10, 50)
    assert device.throttled == {"power cap": pytest.approx(1 / 11)}
    assert (host.cpus, host.cpu_main, host.cpu_workers) == (8, 1.5, None)
    assert summary.energy is not None
    assert device.energy == pytest.approx(1000.0)  # 100 W over 10 s
    assert summary.energy.kwh == pytest.approx(1000 / 3.6e6)
    assert summary.energy.wh_per_1000_images == pytest.approx(1000 / 3600 / 192 * 1000)
    assert summary.missing == [Missing("DRAM activity", "not supported")]


def test_the_energy_counter_of_each_session_counts(tmp_path: Path) -> None:
    write(tmp_path, *two_epochs())
    sampled(tmp_path)
    gpu = LineFile(tmp_path / "gpu-node1.jsonl")
    for k, energy in enumerate([10.0, 300.0, 0.0, 50.0]):  # resumed after 300 J
        gpu.add(DeviceSample(START + 20 + k, "GPU-1", power=1e9, energy=energy))
    gpu.flush()
    assert summarise(tmp_path).devices[0].energy == pytest.approx(350.0)


def test_the_hour_between_two_sessions_uses_no_energy(tmp_path: Path) -> None:
    write(tmp_path, *two_epochs())
    sampled(tmp_path)
    gpu = LineFile(tmp_path / "gpu-node1.jsonl")
    for k in range(6):
        gpu.add(DeviceSample(START + 3600 + k, "GPU-1", power=100.0))
    gpu.flush()
    assert summarise(tmp_path).devices[0].energy == pytest.approx(1500.0)


def test_a_program_that_timed_no_steps_is_judged_by_its_samples(tmp_path: Path) -> None:
    sampled(tmp_path)
    summary = summarise(tmp_path)
    assert (summary.steps, summary.images, summary.seconds, summary.images_per_s) == (0, 0, 10.0, None)
    assert (summary.started, summary.epochs, summary.ranks) == (START, [], [])
    assert summary.verdict is not None
    assert summary.verdict.sentence.startswith("A kernel was running 50 % of the time on 1 GPU.")
    assert summary.devices[0].util == 0.5
    assert summary.energy is not None
    assert summary.energy.wh_per_1000_images == 0.0


def test_what_the_program_says_of_itself_is_described(tmp_path: Path) -> None:
    write(tmp_path, *two_epochs())
    (tmp_path / "job.json").write_text(json.dumps({"net": "unet", "batch": 16}))
    assert summarise(tmp_path).description == {"net": "unet", "batch": "16"}


def test_a_run_directory_is_read_by_its_profile(tmp_path: Path) -> None:
    write(tmp_path / "run" / "profile", [step(1)])
    assert profile_folder(tmp_path / "run") == tmp_path / "run" / "profile"
    assert profile_folder(tmp_path / "run" / "profile") == tmp_path / "run" / "profile"
    assert summarise(tmp_path / "run").name == "run"


@pytest.mark.parametrize("name", ["absent", "empty"])
def test_a_folder_without_records_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileError, match=f"{name}: has no profile records; give a run"):
        summarise(tmp_path / name)
