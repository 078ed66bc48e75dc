"""The Chrome trace: what Perfetto needs of it, checked against the records."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from segkit.errors import FileError
from segkit.profiling.records import (
    DeviceInfo,
    DeviceSample,
    HostSample,
    LineFile,
    PhaseRecord,
    RankInfo,
    SamplerInfo,
    StepRecord,
    write_info,
)
from segkit.profiling.report.trace import write_trace

START = 1_780_000_000.25
STEPS = 40


def step(rank: int, index: int) -> StepRecord:
    """Rank 1 waits longer than its device does."""
    wait = 0.03 if rank else 0.001 * (index % 7)
    t = START + 0.1 * index + (0.5 if index >= STEPS // 2 else 0.0)  # half-way, a validation of half a second
    return StepRecord(
        t=t,
        epoch=2 * index // STEPS,
        step=index + 1,
        wait_s=wait,
        wait_cpu_s=0.0,
        copy_s=0.0041,
        compute_s=0.0501,
        sync_s=0.0123 if index % 2 else None,
        optim_s=0.0047,
        gap_s=0.02,
        step_s=0.1004 if index == 5 else 0.1,  # the system's clock was set back a little
        images=8,
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of two ranks with one GPU that gives no tensor activity."""
    folder = tmp_path / "run" / "profile"
    for rank in (0, 1):
        steps = LineFile(folder / f"steps-rank{rank}.jsonl")
        for index in range(STEPS):
            steps.add(step(rank, index))
        steps.flush()
        write_info(folder / f"rank{rank}.json", RankInfo(rank, 2, "n<1>", "cuda", "GPU-a", "H100", 4, 2))
    phases = LineFile(folder / "phases-rank0.jsonl")
    phases.add(PhaseRecord(START + 0.1 * STEPS / 2, "validate", 0, 0.5))
    phases.flush()
    samples = LineFile(folder / "gpu-n1.jsonl")
    for i in range(10):
        samples.add(DeviceSample(t=START - 0.25 + i, gpu="GPU-a", util=0.1 * i, memory=2**30, power=None))
    samples.add(DeviceSample(t=START, gpu="GPU-b", util=1.0))
    samples.flush()
    hosts = LineFile(folder / "host-n1.jsonl")
    hosts.add(HostSample(t=START, cpu_main=1.5, read=3e6))
    hosts.flush()
    write_info(folder / "sampler-n1.json", SamplerInfo("n1", 1.0, 4, devices=[DeviceInfo("GPU-a", "H100")]))
    return folder.parent


def events(run: Path, *more: Path) -> list[dict[str, Any]]:
    target = run / "trace.json"
    number = write_trace([run, *more], [run.name, *(each.name for each in more)], target)
    whole = json.loads(target.read_text(encoding="utf-8"))
    assert len(whole["traceEvents"]) == number
    found: list[dict[str, Any]] = whole["traceEvents"]
    return found


def spans(found: list[dict[str, Any]]) -> dict[tuple[int, int], list[dict[str, Any]]]:
    lines: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    for event in found:
        if event["ph"] == "X":
            lines[event["pid"], event["tid"]].append(event)
    return lines


def names(found: list[dict[str, Any]], kind: str) -> dict[Any, str]:
    return {(e["pid"], e.get("tid")): e["args"]["name"] for e in found if e["ph"] == "M" and e["name"] == kind}


def test_every_line_nests_and_lies_in_order(run: Path) -> None:
    lines = spans(events(run))
    assert len(lines) == 5  # host and device of two ranks, and the phases of one
    for line in lines.values():
        assert [e["ts"] for e in line] == sorted(e["ts"] for e in line)
        ends: list[float] = []
        for event in line:
            began, ended = event["ts"], event["ts"] + event["dur"]
            assert began >= 0
            assert event["dur"] > 0
            while ends and ends[-1] <= began + 1e-3:
                ends.pop()
            assert not ends or ended <= ends[-1] + 1e-3, "an event reaches out of the one that it lies in"
            ends.append(ended)


def test_parts_last_as_long_as_the_records_say(run: Path) -> None:
    found = events(run)
    threads = names(found, "thread_name")
    device = {pid: tid for (pid, tid), name in threads.items() if name == "device"}
    for rank, (pid, tid) in enumerate(device.items()):
        total: dict[str, float] = defaultdict(float)
        for event in spans(found)[pid, tid]:
            total[event["cat"]] += event["dur"] / 1e6
        records = [step(rank, index) for index in range(STEPS)]
        assert total["copy"] == pytest.approx(sum(r.copy_s or 0 for r in records), abs=1e-6)
        assert total["compute"] == pytest.approx(sum(r.compute_s or 0 for r in records), abs=1e-6)
        assert total["sync"] == pytest.approx(sum(r.sync_s or 0 for r in records), abs=1e-6)
        assert total["starved"] == pytest.approx(sum(r.starved_s for r in records), abs=1e-6)
        assert total["starved"] + total["host"] == pytest.approx(0.02 * STEPS, abs=1e-6)


def test_steps_and_phases_stand_at_their_time(run: Path) -> None:
    found = [e for e in events(run) if e["ph"] == "X"]
    first = START - 0.25  # the first sample came before the first step
    steps = [e for e in found if e["cat"] == "step" and e["pid"] == 1]
    assert [e["ts"] / 1e6 for e in steps] == pytest.approx([step(0, i).t - first for i in range(STEPS)], abs=1e-5)
    assert steps[-1]["args"] == {"epoch": 2, "step": STEPS, "images": 8}
    (phase,) = [e for e in found if e["cat"] == "phase"]
    assert phase["name"] == "validation"
    assert phase["ts"] / 1e6 == pytest.approx(0.25 + 0.1 * STEPS / 2, abs=1e-5)
    assert phase["dur"] == pytest.approx(5e5)


def test_processes_and_threads_have_names(run: Path) -> None:
    found = events(run)
    assert list(names(found, "process_name").values()) == [
        "rank 0 on n<1> (H100)",
        "rank 1 on n<1> (H100)",
        "GPU 0 on n1 (H100)",
        "node n1",
    ]
    assert list(names(found, "thread_name").values()) == 2 * ["host", "device", "between steps"]


def test_counters_hold_what_was_measured_and_nothing_else(run: Path) -> None:
    counters: dict[str, list[float]] = defaultdict(list)
    for event in events(run):
        if event["ph"] == "C":
            counters[event["name"]].append(event["args"]["value"])
    assert counters["utilisation (%)"] == pytest.approx([10 * i for i in range(10)])
    assert counters["memory (GiB)"] == [1.0] * 10
    assert counters["CPUs: training process"] == [1.5]
    assert counters["read from storage (MB/s)"] == [3.0]
    assert set(counters) == {
        "utilisation (%)",
        "memory (GiB)",
        "CPUs: training process",
        "read from storage (MB/s)",
    }


def test_several_runs_are_told_apart_and_both_begin_at_zero(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    steps = LineFile(other / "steps-rank0.jsonl")
    late = step(0, 0)
    late.t += 86_400
    steps.add(late)
    steps.flush()
    found = events(run, other)
    named = {pid: name for (pid, _), name in names(found, "process_name").items()}
    assert named[1].startswith("run: rank 0")
    assert named[5] == "other: rank 0"
    assert min(e["ts"] for e in found if e["pid"] == 5 and "ts" in e) == 0


def test_a_cpu_that_gave_no_device_times_shows_its_steps(tmp_path: Path) -> None:
    steps = LineFile(tmp_path / "steps-rank0.jsonl")
    steps.add(StepRecord(START, 0, 1, 0.02, 0.0, None, None, None, None, None, 0.1, 4))
    steps.flush()
    lines = spans(events(tmp_path))
    assert [[e["name"] for e in line] for line in lines.values()] == [["step 1", "wait for the loader"]]


def test_a_compressed_trace_is_the_same(run: Path) -> None:
    write_trace([run], ["run"], run / "trace.json")
    write_trace([run], ["run"], run / "trace.json.gz")
    assert gzip.decompress((run / "trace.json.gz").read_bytes()) == (run / "trace.json").read_bytes()


def test_no_records_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no profile records"):
        write_trace([tmp_path], ["x"], tmp_path / "trace.json")
    assert list(tmp_path.iterdir()) == []
