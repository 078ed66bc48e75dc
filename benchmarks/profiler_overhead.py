"""What the profiler costs, clock and sampler together, as a share of a training step. Bar: under 1 %.

    python -m benchmarks.profiler_overhead [--device cpu|cuda] [--rounds 60] [--output FILE]

Told in two ways, from the same short stretches of steps, which take turns with and without the profiler:

- its own CPU time, counted in the loop: the clock's calls, the writing of the records, and the sampler's thread, as if
  all of that held the training up. It decides the bar. On a CPU it is over the CPU time of the training's own
  thread, so that other programs on the machine can only make it look larger.
- step time with it over step time without, which also has what cannot be counted (lost caches, CUDA events on the
  device), but is known only as well as the machine is quiet.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.cpu_training import learner
from benchmarks.timing import alternate, machine, median, ratio
from segkit.data.stores import RecordShape
from segkit.profiling.sampling.devices import torch_uuid
from segkit.profiling.sampling.sampler import Sampler
from segkit.profiling.step_clock import Clock, NoClock, StepClock
from segkit.training.learner import Learner

BAR = 0.01
INTERVAL = 0.5  # seconds between samples, as in training
STRETCH = 2.0  # seconds of a measured stretch: several samples
SETTLE = 0.3  # seconds before it: the sampler's first look at the machine is no part of its steady cost
Batch = tuple[torch.Tensor, torch.Tensor]


def random_batch(batch: int, size: int, device: torch.device) -> Batch:
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


class CountedClock:
    """The profiler's clock; counts the CPU time that its calls take."""

    def __init__(self, clock: StepClock) -> None:
        self.clock, self.spent = clock, 0.0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Both ends of it are counted."""
        around = self.clock.waiting()
        self._count(around.__enter__)
        yield
        self._count(around.__exit__, None, None, None)

    def switch(self, part: str | None) -> None:
        """Counted."""
        self._count(self.clock.switch, part)

    def end_step(self, epoch: int, step: int, images: int) -> None:
        """Counted."""
        self._count(self.clock.end_step, epoch, step, images)

    def flush(self) -> None:
        """Counted; in training, with each checkpoint."""
        self._count(self.clock.flush)

    def _count(self, call: Callable[..., object], *arguments: object) -> None:
        began = time.thread_time()
        call(*arguments)
        self.spent += time.thread_time() - began


@dataclass(frozen=True)
class Stretch:
    """Some steps in a row; seconds a step."""

    wall: float
    cpu: float  # of the training's own thread
    clock: float = 0.0  # CPU time of the clock's calls
    sampler: float = 0.0  # CPU time of the sampler's thread


def stretch(subject: Learner, batch: Batch, clock: Clock, steps: int) -> Stretch:
    """Steps that are told to `clock` as the trainer does."""
    device = batch[0].device
    synchronise(device)
    sampling = sampler_seconds()
    started, cpu = time.perf_counter(), time.thread_time()
    for step in range(steps):
        with clock.waiting():
            images, masks = batch
        clock.switch("copy")
        subject.step(step, [(images, masks, 1.0)], 1, clock)
        if isinstance(clock, CountedClock):
            clock.end_step(0, step, len(images))
    if isinstance(clock, CountedClock):
        clock.flush()
    synchronise(device)
    wall, cpu = time.perf_counter() - started, time.thread_time() - cpu
    spent = clock.spent if isinstance(clock, CountedClock) else 0.0
    return Stretch(wall / steps, cpu / steps, spent / steps, (sampler_seconds() - sampling) / steps)


def sampler_seconds() -> float:
    """CPU time of the sampler's thread so far; 0 where none runs."""
    thread = next((t for t in threading.enumerate() if t.name == "segkit-sampler"), None)
    if thread is None:
        return 0.0
    return int(Path(f"/proc/self/task/{thread.native_id}/schedstat").read_text().split()[0]) / 1e9


def _devices(device: torch.device) -> list[str]:
    uuid = torch_uuid(device) if device.type == "cuda" else None
    return [uuid] if uuid else []


def measure(
    device: torch.device, rounds: int, *, width: int, size: int, batch: int
) -> tuple[list[Stretch], list[Stretch]]:
    """Stretches with the profiler and without, pair by pair."""
    subject, data = learner("unet", width, size, device), random_batch(batch, size, device)
    stretch(subject, data, NoClock(), 5)
    steps = max(2, round(STRETCH / stretch(subject, data, NoClock(), 5).wall))
    with_it: list[Stretch] = []
    without: list[Stretch] = []
    with tempfile.TemporaryDirectory() as name:

        def with_profiler() -> float:
            with Sampler(Path(name), devices=_devices(device), interval=INTERVAL):
                time.sleep(SETTLE)
                with_it.append(stretch(subject, data, CountedClock(StepClock(Path(name), device)), steps))
            return with_it[-1].wall

        def without_profiler() -> float:
            time.sleep(SETTLE)
            without.append(stretch(subject, data, NoClock(), steps))
            return without[-1].wall

        alternate([with_profiler, without_profiler], rounds + 1)
    return with_it[1:], without[1:]


def overhead(device: torch.device, rounds: int, *, width: int, size: int, batch: int) -> dict[str, Any]:
    """Both shares with their 95 % intervals, and the parts."""
    with_it, without = measure(device, rounds, width=width, size=size, batch=batch)
    middle, low, high = ratio([s.wall for s in with_it], [s.wall for s in without])
    whole = [s.cpu if device.type == "cpu" else s.wall for s in with_it]
    own = mean_share([s.clock + s.sampler for s in with_it], whole)
    return {
        "net": f"unet width {width}, {batch} x {size} x {size}",
        "rounds": rounds,
        "step_s": median([s.wall for s in without]),
        "ratio": middle,
        "interval": [low, high],
        "own_share": own[0],
        "own_interval": own[1:],
        "clock_s": float(np.mean([s.clock for s in with_it])),
        "sampler_share_of_a_cpu": float(np.sum([s.sampler for s in with_it]) / np.sum([s.wall for s in with_it])),
        "under_bar": bool(own[2] < BAR),
    }


def mean_share(parts: list[float], wholes: list[float], seed: int = 0) -> list[float]:
    """All parts over all wholes, with the 95 % bootstrap interval: what is rare but large counts in full."""
    part, whole = np.array(parts), np.array(wholes)
    picks = np.random.default_rng(seed).integers(0, len(part), (4000, len(part)))
    low, high = np.percentile(part[picks].sum(axis=1) / whole[picks].sum(axis=1), (2.5, 97.5))
    return [float(part.sum() / whole.sum()), float(low), float(high)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--output", type=Path, help="JSON file.")
    for name, default in (("width", 8), ("size", 128), ("batch", 4)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    shape = {name: getattr(arguments, name) for name in ("width", "size", "batch")}
    result = {"machine": machine(), **overhead(torch.device(arguments.device), arguments.rounds, **shape)}
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (low, high), (own_low, own_high) = result["interval"], result["own_interval"]
    print(result["machine"])
    print(f"{result['net']}: {1000 * result['step_s']:.1f} ms a step")
    print(
        f"the profiler's own CPU time: {result['own_share']:.3%} [{own_low:.3%}, {own_high:.3%}] of a step "
        f"(clock {1e6 * result['clock_s']:.0f} us a step, sampler {result['sampler_share_of_a_cpu']:.3%} of one CPU)"
    )
    print(
        f"step time with profiler / without: {result['ratio']:.4f} [{low:.4f}, {high:.4f}] in {result['rounds']} pairs"
    )
    print(f"under {BAR:.0%}: {'yes' if result['under_bar'] else 'no'}, by its own CPU time")


if __name__ == "__main__":
    main()
