from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest

from segkit.errors import FileError
from segkit.profiling.records import (
    DeviceInfo,
    DeviceSample,
    HostSample,
    LineFile,
    Missing,
    RankInfo,
    SamplerInfo,
    StepRecord,
    from_plain,
    read_lines,
    read_rank_infos,
    read_sampler_info,
    write_info,
)
from tests.profiling.made import rank_info, step, write


def test_a_step_reads_back_as_it_was(tmp_path: Path) -> None:
    steps = [step(1, sync_s=0.25, copy_s=None), step(2, wait_s=1 / 3, t=1_780_000_000.123456)]
    write(tmp_path / "profile", steps)
    assert read_lines(tmp_path / "profile" / "steps-rank0.jsonl", StepRecord) == steps


def test_the_line_of_a_step_has_the_documented_keys(tmp_path: Path) -> None:
    write(tmp_path, [step(1)])
    (line,) = (tmp_path / "steps-rank0.jsonl").read_text().splitlines()
    documented = {"epoch", "step", "wait_s", "copy_s", "compute_s", "gap_s", "sync_s", "images"}
    assert documented <= set(json.loads(line))
    assert json.loads(line)["copy_s"] is None  # what cannot be given is null, never 0


@pytest.mark.parametrize("kind", [DeviceSample, HostSample])
def test_a_sample_of_a_device_that_tells_nothing_is_null_throughout(kind: type[DeviceSample | HostSample]) -> None:
    needed = {"t": 1.0, "gpu": "GPU-1"}
    sample = from_plain(kind, needed)
    assert all(getattr(sample, field.name) is None for field in fields(kind) if field.name not in needed)


def test_flushing_appends_each_record_once(tmp_path: Path) -> None:
    file = LineFile(tmp_path / "deep" / "steps.jsonl")
    file.flush()
    assert not file.path.exists()  # nothing to say, no file
    for number in (1, 2, 3):
        file.add(step(number))
        file.flush()
        file.flush()
    LineFile(file.path).flush()
    again = LineFile(file.path)  # a resumed run
    again.add(step(4))
    again.flush()
    assert [r.step for r in read_lines(file.path, StepRecord)] == [1, 2, 3, 4]


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_torn_last_line_is_left_out(tmp_path: Path, cut: int) -> None:
    write(tmp_path, [step(1), step(2)])
    path = tmp_path / "steps-rank0.jsonl"
    path.write_bytes(path.read_bytes()[: -cut - 1])
    assert [r.step for r in read_lines(path, StepRecord)] == [1]


def test_a_torn_character_is_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "gpu-x.jsonl"
    path.write_bytes(b'{"t":1.0,"gpu":"GPU-1"}\n{"t":2.0,"gpu":"\xc3')
    assert [sample.t for sample in read_lines(path, DeviceSample)] == [1.0]


def test_a_run_that_was_killed_and_resumed_loses_only_the_torn_line(tmp_path: Path) -> None:
    write(tmp_path, [step(1), step(2)])
    path = tmp_path / "steps-rank0.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    write(tmp_path, [step(2), step(3)])
    assert [r.step for r in read_lines(path, StepRecord)] == [1, 2, 3]


def test_files_of_other_versions_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "gpu-x.jsonl"
    path.write_text('{"t":1.0,"gpu":"GPU-1","util":0.5,"colour":"red"}\n[1, 2]\n{"gpu":"no time"}\n')
    assert read_lines(path, DeviceSample) == [DeviceSample(1.0, "GPU-1", util=0.5)]


def test_an_absent_file_has_no_records(tmp_path: Path) -> None:
    assert read_lines(tmp_path / "none.jsonl", StepRecord) == []


def test_what_a_sampler_saw_reads_back(tmp_path: Path) -> None:
    info = SamplerInfo(
        host="node1",
        interval=0.5,
        cpus=8,
        driver="570.1",
        devices=[DeviceInfo("GPU-1", "NVIDIA H100", memory_total=80 * 2**30), DeviceInfo("MIG-2", "x", mig=True)],
        missing=[Missing("SM activity (GPM)", "not supported")],
    )
    write_info(tmp_path / "sampler-node1.json", info)
    assert read_sampler_info(tmp_path / "sampler-node1.json") == info


def test_a_sampler_file_that_is_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "sampler-x.json").write_text("{")
    with pytest.raises(FileError, match=r"sampler-x\.json: is not JSON"):
        read_sampler_info(tmp_path / "sampler-x.json")


def test_ranks_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for rank in (10, 2, 0):
        write_info(tmp_path / f"rank{rank}.json", rank_info(rank, world=11))
    infos = read_rank_infos(tmp_path)
    assert list(infos) == [0, 2, 10]
    assert isinstance(infos[2], RankInfo)
    assert infos[2] == rank_info(2, world=11)
