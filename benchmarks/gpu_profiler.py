"""The profiler's part of benchmarks.gpu: what only a real device can show."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.profiler_overhead import overhead
from segkit.profiling.analysis import summarise
from segkit.profiling.profiler import Profiler
from segkit.profiling.records import StepRecord, read_lines
from segkit.profiling.summary import DeviceSummary, RunSummary

ROOT = Path(__file__).parent.parent


def profiler_checks(
    phantom: Path, folder: Path, device: torch.device, *, quick: bool
) -> dict[str, Callable[[], dict[str, Any]]]:
    """The checks by name."""
    return {
        "profiler: sampled device": lambda: sampled(folder / "sampled", device, seconds=2.0 if quick else 12.0),
        "profiler: starvation and hidden wait": lambda: waits(folder, device),
        "profiler: overhead": lambda: costs(device, quick=quick),
        "profiler: stalls of real training": lambda: stalls(phantom, folder, device, quick=quick),
    }


def busy(device: torch.device, milliseconds: float) -> Callable[[], None]:
    """Work that keeps the device busy for about so long."""
    x = torch.randn(2048, 2048, device=device, dtype=torch.float32)

    def multiply(count: int) -> None:
        for _ in range(count):
            torch.mm(x, x)

    multiply(5)
    wait_for(device)
    started = time.perf_counter()
    multiply(20)
    wait_for(device)
    count = max(1, round(milliseconds / 1000 / ((time.perf_counter() - started) / 20)))
    return lambda: multiply(count)


def wait_for(device: torch.device) -> None:
    """Until the device has nothing to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def sampled(folder: Path, device: torch.device, seconds: float) -> dict[str, Any]:
    """A device that is busy half of the time: utilisation near a half, and the other metrics as they come."""
    work = busy(device, 100)
    with Profiler(folder, device=device, interval=0.25, quiet=True) as p:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for _ in p.watch([0]):
                work()
                wait_for(device)
            time.sleep(0.1)
    summary = summarise(folder)
    result: dict[str, Any] = {"missing": [vars_of(item) for item in summary.missing]}
    for gpu in summary.devices:
        result[gpu.info.uuid] = told(gpu)
    if device.type == "cuda":
        utils = [gpu.util for gpu in summary.devices]
        if len(utils) != 1 or utils[0] is None or not 0.25 < utils[0] < 0.8:
            raise AssertionError(f"utilisation of a device that is busy half of the time: {result}")
    return result


def vars_of(item: Any) -> str:
    """What is missing, in a line."""
    return f"{item.what}: {item.why}"


def told(gpu: DeviceSummary) -> dict[str, Any]:
    """The figures of a device."""
    names = ("util", "sm", "tensor", "dram", "memory_peak", "power_mean", "energy", "temperature_max", "throttled")
    figures = {name: getattr(gpu, name) for name in names}
    clocks = [value for value in gpu.series["sm_clock"] if value is not None]
    return {
        **figures,
        "name": gpu.info.name,
        "samples": len(gpu.series["t"]),
        "sm_clock_max": max(clocks, default=None),
    }


def waits(folder: Path, device: torch.device) -> dict[str, Any]:
    """The device computes 40 ms a step. A loader that takes 80 ms starves it for about 40 ms; one that takes 20 ms is
    hidden by queued work and starves it for almost nothing."""
    work = busy(device, 40)

    def shares(load: float, name: str) -> dict[str, float]:
        def loader() -> Any:
            for _ in range(30):
                time.sleep(load)
                yield 0

        with Profiler(folder / name, device=device, interval=0, quiet=True) as p:
            for _ in p.watch(loader()):
                work()
        steps = read_lines(folder / name / "steps-rank0.jsonl", StepRecord)[5:]
        return {
            "wait_s": sum(step.wait_s for step in steps) / len(steps),
            "starved_s": sum(step.starved_s for step in steps) / len(steps),
            "compute_s": sum(step.compute_s or 0.0 for step in steps) / len(steps),
        }

    result = {"slow loader": shares(0.08, "slow"), "fast loader": shares(0.02, "fast")}
    if device.type == "cuda":
        slow, fast = result["slow loader"], result["fast loader"]
        if not (slow["starved_s"] > 0.02 and fast["starved_s"] < 0.005 and fast["wait_s"] > 0.015):
            raise AssertionError(str(result))
    return result


def costs(device: torch.device, *, quick: bool) -> dict[str, Any]:
    """Step time with the profiler over without; at most 1 % more, as far as the interval tells."""
    width, size, batch = (8, 64, 4) if quick else (64, 256, 16)
    result = overhead(device, 4 if quick else 30, width=width, size=size, batch=batch)
    if result["interval"][0] > 1.01:
        raise AssertionError(str(result))
    return result


def stalls(phantom: Path, folder: Path, device: torch.device, *, quick: bool) -> dict[str, Any]:
    """`segkit profile --verify` of a real training from files; its prediction and whether it held."""
    target = folder / "profile"
    width = ["--width", "4", "--counts", "0,1"] if quick else ["--width", "32", "--counts", "0,1,2,4,8"]
    words = ["--model", "unet", *width, "--batch", "8", "--loader", "files", "--device", device.type, "--verify"]
    command = [sys.executable, "-m", "segkit", "profile", "--data", str(phantom), "-o", str(target), *words]
    limit = ["--seconds", "1" if quick else "5"]
    done = subprocess.run([*command, *limit], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    if done.returncode:
        raise AssertionError(done.stderr[-400:])
    summary: RunSummary = summarise(target)
    verdict, differential = summary.verdict, summary.differential
    if verdict is None or differential is None:
        raise AssertionError("no verdict")
    plain = json.loads((target / "profile" / "differential.json").read_text())
    return {"verdict": verdict.kind, "sentence": verdict.sentence, "sure": verdict.sure, "differential": plain}
