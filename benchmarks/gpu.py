"""Every check that needs a GPU, in one command of under 10 minutes; writes one JSON.

    python -m benchmarks.gpu [--output gpu.json] [--quick] [--device cuda|cpu]

Correctness of the CUDA paths (against the CPU, against themselves, after a restart), the profiler on a real device
(NVML beside GPM, the step clock's CUDA events against a known load, stalls, overhead), images/s of the three nets
over precision, batch, channels_last and compile, then whole trainings over workers and loaders (`benchmarks.gpu_study`)
in the time that is left; all of those take `python -m benchmarks.gpu_study` of its own. Needs the checkout, PyTorch,
NumPy, Pillow and typer. With `--device cpu --quick` it checks itself on a machine without a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.cpu_training import learner
from benchmarks.gpu_peak import share_of_peak
from benchmarks.gpu_profiler import profiler_checks
from benchmarks.gpu_study import bar, study
from benchmarks.profiler_overhead import random_batch, synchronise
from segkit.data.phantom import write_phantom
from segkit.models.cost import cost
from segkit.profiling.step_clock import NoClock
from segkit.training.checkpoint import load_checkpoint
from segkit.training.learner import Learner

ROOT = Path(__file__).parent.parent
NETS = ("unet", "fcn", "segnet")
WARM_STEPS, TIMED_SECONDS = 5, 4.0
MINUTES = 9.0  # for everything


def main() -> None:
    """Run every check; exit code 1 if one of correctness failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("gpu.json"))
    parser.add_argument("--quick", action="store_true", help="Small nets and few cells.")
    parser.add_argument("--device", default="cuda")
    arguments = parser.parse_args()
    device, started = torch.device(arguments.device), time.monotonic()
    result: dict[str, Any] = {"machine": describe_machine(device), "checks": {}, "throughput": []}
    with tempfile.TemporaryDirectory() as folder:
        phantom = Path(folder) / "phantom"
        write_phantom(phantom, patients=8, slices=8, size=64)
        checks: dict[str, Callable[[], dict[str, Any]]] = {
            "step agrees with the CPU": lambda: agrees_with_cpu(device),
            "same seed, same weights": lambda: restarts(phantom, Path(folder), device, kill=False),
            "resumed, same weights": lambda: restarts(phantom, Path(folder), device, kill=True),
            "loaders give the same weights": lambda: loaders(phantom, Path(folder), device),
            "precisions learn": lambda: precisions(device),
            **profiler_checks(phantom, Path(folder), device, quick=arguments.quick),
        }
        for name, check in checks.items():
            result["checks"][name] = outcome = guarded(check)
            print(f"{'ok  ' if outcome['ok'] else 'FAIL'} {name}: {outcome}", flush=True)
            save(arguments.output, result)
    for cell in grid(arguments.quick):
        row = guarded(lambda c=cell: throughput(device, **c))
        result["throughput"].append({**cell, **row})
        print(cell, row, flush=True)
        save(arguments.output, result)
    left = 1.0 if arguments.quick else MINUTES - (time.monotonic() - started) / 60
    result["study"] = study(arguments.device, left, quick=arguments.quick) if left > 0 else []
    print(bar(result["study"]))
    save(arguments.output, result)
    sys.exit(0 if all(check["ok"] for check in result["checks"].values()) else 1)


def guarded(check: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A check's result; an exception is one, too, so that the rest still runs."""
    try:
        return {"ok": True, **check()}
    except Exception as error:
        torch.cuda.empty_cache()
        return {"ok": False, "error": f"{type(error).__name__}: {error}"[:400]}


def save(path: Path, result: dict[str, Any]) -> None:
    """After every step, so that a time limit loses nothing."""
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def describe_machine(device: torch.device) -> dict[str, Any]:
    """What the figures belong to."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    versions = {"torch": torch.__version__, "cuda": torch.version.cuda, "python": platform.python_version()}
    return {"device": name, "cores": os.cpu_count(), **versions}


def one_step_losses(subject: Learner, device: torch.device, steps: int) -> list[float]:
    """Loss of each of some steps on one batch."""
    images, masks = random_batch(8, 64, device)
    results = [subject.step(step, [(images, masks, 1.0)], 1, NoClock()) for step in range(steps)]
    return [float(step[0][0]) for step in results]


def on(device: torch.device, model: str, width: int, **settings: Any) -> Learner:
    """A learner on a device."""
    return learner(model, width, 64, device, **settings)


def agrees_with_cpu(device: torch.device) -> dict[str, Any]:
    """Loss of the first step in float32, without augmentation, on both devices; dropout aside."""
    differences = {}
    for model in NETS:
        losses = []
        for place in (torch.device("cpu"), device):
            subject = on(place, model, 8, precision="fp32", augment=False)
            for module in subject.net.modules():
                if isinstance(module, torch.nn.Dropout | torch.nn.Dropout2d):
                    module.p = 0.0
            losses.append(one_step_losses(subject, place, 1)[0])
        differences[model] = abs(losses[0] - losses[1])
        if differences[model] > 1e-3:
            raise AssertionError(f"{model}: {losses}")
    return {"differences": differences}


def precisions(device: torch.device) -> dict[str, Any]:
    """Each precision brings the loss of one batch down."""
    falls = {}
    for precision in ("fp32", "bf16", "fp16"):
        losses = one_step_losses(on(device, "unet", 8, precision=precision, lr=0.01, augment=False), device, 20)
        falls[precision] = losses[-1] / losses[0]
        if not falls[precision] < 0.9:
            raise AssertionError(f"{precision}: {losses}")
    return {"last loss / first": falls}


def train_command(phantom: Path, run: Path, device: torch.device, *words: str) -> list[str]:
    """`segkit train` of a small U-Net that saves after every step."""
    settings = ["--model", "unet", "--width", "8", "--epochs", "3", "--batch", "4", "--checkpoint-seconds", "0"]
    command = [sys.executable, "-m", "segkit", "train", "--data", str(phantom), "--run", str(run), *settings]
    return [*command, "--device", device.type, "--no-export", *words]


def train(phantom: Path, run: Path, device: torch.device, *words: str) -> None:
    """Run it to its end."""
    command = train_command(phantom, run, device, *words)
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=200)


def weights(run: Path) -> dict[str, torch.Tensor]:
    """The last weights of a run."""
    return dict(load_checkpoint(run / "checkpoints" / "last.pt")["net"])


def require_equal(one: Path, other: Path) -> dict[str, Any]:
    """Bitwise equal weights, or the largest difference in the error."""
    first, second = weights(one), weights(other)
    differences = [float((first[key].float() - second[key].float()).abs().max()) for key in first]
    if max(differences) > 0:
        raise AssertionError(f"largest difference {max(differences)}")
    return {}


def restarts(phantom: Path, folder: Path, device: torch.device, *, kill: bool) -> dict[str, Any]:
    """A second run equals the first; with `kill`, one that was stopped after an epoch's worth of steps and resumed."""
    whole = folder / "whole"
    if not whole.exists():
        train(phantom, whole, device)
    other = folder / ("killed" if kill else "again")
    if kill:
        command = train_command(phantom, other, device)
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        while process.poll() is None and not (other / "checkpoints" / "last.pt").exists():
            time.sleep(0.01)
        process.kill()
        process.wait()
    train(phantom, other, device, "--resume")
    return require_equal(whole, other)


def loaders(phantom: Path, folder: Path, device: torch.device) -> dict[str, Any]:
    """The three loaders give the same weights."""
    for loader in ("files", "resident"):
        train(phantom, folder / loader, device, "--loader", loader, "--workers", "2")
        require_equal(folder / "whole", folder / loader)
    return {}


def grid(quick: bool) -> list[dict[str, Any]]:
    """The cells whose throughput is measured."""
    width, size = (8, 64) if quick else (64, 256)
    plain = {"width": width, "size": size, "precision": "fp32", "batch": 16, "channels_last": False, "compile": False}
    cells = [{"model": model, **plain} for model in NETS]
    cells += [{"model": model, **plain, "precision": "bf16", "channels_last": True} for model in NETS]
    if not quick:
        fast = {**plain, "precision": "bf16", "channels_last": True, "deterministic": False}
        cells += [{"model": model, **fast, "batch": batch} for model in NETS for batch in (16, 32, 64)]
        cells += [{"model": model, **fast, "batch": 64, "compile": True} for model in NETS]
        cells += [{"model": "unet", **fast, "precision": "fp16", "batch": 32}]
    return cells


def throughput(
    device: torch.device, *, model: str, width: int, size: int, batch: int, **settings: Any
) -> dict[str, Any]:
    """Images/s of segkit's own step (augmentation and optimiser included) on a resident batch; TFLOP/s of the net."""
    deterministic = bool(settings.get("deterministic", True))
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = deterministic, not deterministic
    subject = on(device, model, width, **settings)
    images, masks = random_batch(batch, size, device)

    def run(steps: int) -> float:
        synchronise(device)
        started = time.perf_counter()
        for step in range(steps):
            subject.step(step, [(images, masks, 1.0)], 1, NoClock())
        synchronise(device)
        return time.perf_counter() - started

    first = run(1)
    steps = max(3, min(200, int(TIMED_SECONDS / max(run(WARM_STEPS) / WARM_STEPS, 1e-4))))
    rate = batch * steps / run(steps)
    flops = 3 * cost(model, in_channels=3, classes=2, width=width, size=size).gflops * 1e9 * rate
    memory = torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    share = share_of_peak(flops, name, str(settings.get("precision")))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    return {
        "images_per_s": rate,
        "tflops": flops / 1e12,
        "share_of_peak": share,
        "first_step_s": first,
        "peak_memory_gb": memory,
    }


if __name__ == "__main__":
    main()
