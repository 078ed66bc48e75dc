"""Step rate on a CPU: bf16 + channels_last against the plain fp32 loop, for each net. Bar: at least 2.2x.

    python -m benchmarks.cpu_training [--width 16] [--batch 8] [--size 256] [--rounds 5]

Both run segkit's own step (augmentation, loss, AdamW, EMA) on the same random batch, in turn. The ratio of the plain
matrix products is what the processor offers: bf16 pays where it has AMX tiles.
"""

from __future__ import annotations

import argparse
import time

import torch

from benchmarks.timing import alternate, machine, median, ratio
from segkit.model_metadata import ModelMetadata
from segkit.profiling.step_clock import NoClock
from segkit.resources import granted_cpus, has_bf16_cpu
from segkit.training.checkpoint import NetDescription
from segkit.training.config import TrainConfig
from segkit.training.distributed import World
from segkit.training.learner import Learner

CPU = torch.device("cpu")


def learner(model: str, width: int, size: int, device: torch.device = CPU, **settings: object) -> Learner:
    """A learner as `segkit train` makes it, for three channels and two classes."""
    metadata = ModelMetadata(
        model, width, ("background", "tumor"), ("pre", "FLAIR", "post"), (size, size), "scale", (0, 255)
    )
    config = TrainConfig().replace(model=model, width=width, **settings)
    world = World(0, 1, 1, device)
    return Learner(config, world, NetDescription(metadata, (0.1, 0.1, 0.1), (0.2, 0.2, 0.2)), total_steps=1000)


def images_per_second(subject: Learner, images: torch.Tensor, masks: torch.Tensor) -> float:
    started = time.perf_counter()
    subject.step(0, [(images, masks, 1.0)], 1, NoClock())
    return len(images) / (time.perf_counter() - started)


def matrix_ratio(size: int = 2048) -> float:
    """Rate of a bf16 matrix product over that of fp32."""
    left = torch.randn(size, size)

    def rate(x: torch.Tensor) -> float:
        started = time.perf_counter()
        _ = x @ x
        return 1 / (time.perf_counter() - started)

    narrow = left.bfloat16()
    values = alternate([lambda: rate(narrow), lambda: rate(left)], 6)
    return ratio(values[0][1:], values[1][1:])[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("width", 16), ("batch", 8), ("size", 256), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    torch.set_num_threads(granted_cpus())
    torch.manual_seed(0)
    images = torch.randint(0, 256, (arguments.batch, arguments.size, arguments.size, 3), dtype=torch.uint8)
    masks = (torch.rand(arguments.batch, arguments.size, arguments.size) < 0.02).to(torch.uint8)
    print(machine(), "which multiplies bf16 faster" if has_bf16_cpu() else "which does not multiply bf16 faster")
    print(f"matrix product, bf16 / fp32: {matrix_ratio():.2f}x")
    print(f"width {arguments.width}, batch {arguments.batch}, {arguments.size} x {arguments.size}, images/s")
    for model in ("unet", "fcn", "segnet"):
        plain = learner(model, arguments.width, arguments.size, precision="fp32", channels_last=False, fused=False)
        fast = learner(model, arguments.width, arguments.size, precision="bf16")
        measures = [lambda s=subject: images_per_second(s, images, masks) for subject in (fast, plain)]
        rates = [values[1:] for values in alternate(measures, arguments.rounds + 1)]
        middle, low, high = ratio(*rates)
        absolute = f"fp32 {median(rates[1]):6.2f}   bf16 + channels_last {median(rates[0]):6.2f}"
        print(f"{model:7} {absolute}   {middle:.2f}x [{low:.2f}, {high:.2f}]")


if __name__ == "__main__":
    main()
