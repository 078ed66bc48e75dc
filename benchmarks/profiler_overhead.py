"""What the profiler costs: step time with clock and sampler over step time without. Bar: under 1 %.

    python -m benchmarks.profiler_overhead [--device cpu|cuda] [--rounds 30]

Both ways take turns, a short stretch of steps each. Beside it, the parts are timed alone: the clock's calls for one
step, and the sampler's thread for one sample, which tell more on a noisy machine.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.cpu_training import learner
from benchmarks.timing import alternate, machine, median, ratio
from segkit.data.stores import RecordShape
from segkit.profiling.sampling.devices import torch_uuid
from segkit.profiling.sampling.sampler import Sampler
from segkit.profiling.step_clock import Clock, NoClock, StepClock
from segkit.training.learner import Learner

INTERVAL = 0.5  # seconds between samples, as in training
STRETCH = 2.0  # seconds of a measured stretch: several samples
SETTLE = 0.3  # seconds before it: the sampler's first look at the machine is no part of its steady cost


def random_batch(batch: int, size: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Records split as a store gives them: images uint8 [B, H, W, 3], masks [B, H, W]."""
    shape = RecordShape(size, size, 3)
    generator = torch.Generator().manual_seed(0)
    records = torch.randint(0, 256, (batch, shape.size), dtype=torch.uint8, generator=generator)
    images, masks = shape.split(records.to(device))
    return images, (masks > 250).to(torch.uint8)


def synchronise(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def step_seconds(subject: Learner, batch: tuple[torch.Tensor, torch.Tensor], clock: Clock, steps: int) -> float:
    """Mean seconds of a step that is told to `clock` as the trainer does."""
    device = batch[0].device
    synchronise(device)
    started = time.perf_counter()
    for step in range(steps):
        with clock.waiting():
            images, masks = batch
        clock.switch("copy")
        subject.step(step, [(images, masks, 1.0)], 1, clock)
        if isinstance(clock, StepClock):
            clock.end_step(0, step, len(images))
    synchronise(device)
    return (time.perf_counter() - started) / steps


def clock_alone(device: torch.device, folder: Path, steps: int = 2000) -> float:
    """Seconds of the clock's own calls for one step, with nothing between them."""
    clock = StepClock(folder, device)
    started = time.perf_counter()
    for step in range(steps):
        with clock.waiting():
            pass
        for part in ("copy", "compute", "optim"):
            clock.switch(part)
        clock.end_step(0, step, 1)
    return (time.perf_counter() - started) / steps


def sampler_alone(device: torch.device, folder: Path, seconds: float = 3.0) -> float:
    """CPU seconds that the sampler's thread takes in each second of sampling, while this thread sleeps."""
    with Sampler(folder, devices=_devices(device), interval=INTERVAL):
        time.sleep(1.0)  # its first look at the machine costs more
        began = time.process_time()
        time.sleep(seconds)
        return (time.process_time() - began) / seconds


def _devices(device: torch.device) -> list[str]:
    uuid = torch_uuid(device) if device.type == "cuda" else None
    return [uuid] if uuid else []


def overhead(device: torch.device, rounds: int, *, width: int, size: int, batch: int) -> dict[str, Any]:
    """The ratio with its interval, and the parts alone."""
    subject = learner("unet", width, size, device)
    data = random_batch(batch, size, device)
    step_seconds(subject, data, NoClock(), 5)
    steps = max(2, round(STRETCH / step_seconds(subject, data, NoClock(), 5)))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clock = StepClock(folder, device)

        def with_profiler() -> float:
            with Sampler(folder, devices=_devices(device), interval=INTERVAL):
                time.sleep(SETTLE)
                return step_seconds(subject, data, clock, steps)

        def without_profiler() -> float:
            time.sleep(SETTLE)
            return step_seconds(subject, data, NoClock(), steps)

        with_it, without = alternate([with_profiler, without_profiler], rounds + 1)
        middle, low, high = ratio(with_it[1:], without[1:])
        step = median(without[1:])
        return {
            "step_s": step,
            "ratio": middle,
            "interval": [low, high],
            "clock_share": clock_alone(device, folder) / step,
            "sampler_share_of_a_cpu": sampler_alone(device, folder),
            "net": f"unet width {width}, {batch} x {size} x {size}",
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=30)
    for name, default in (("width", 8), ("size", 128), ("batch", 4)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    result = overhead(
        torch.device(arguments.device),
        arguments.rounds,
        width=arguments.width,
        size=arguments.size,
        batch=arguments.batch,
    )
    low, high = result["interval"]
    print(machine())
    print(f"{result['net']}: {1000 * result['step_s']:.1f} ms a step")
    print(f"with profiler / without: {result['ratio']:.4f} [{low:.4f}, {high:.4f}]")
    print(f"clock alone: {result['clock_share']:.4%} of a step")
    print(f"sampler alone: {result['sampler_share_of_a_cpu']:.3%} of one CPU")


if __name__ == "__main__":
    main()
