"""From the shell to a mask: `segkit segment` against the shortest script that does the same.

    python benchmarks/segment_start.py [--model model.onnx] [--pairs 15] [--threads N]

Each pair runs both as processes of their own, one after the other, in turns that begin with either. The ratio is the
median of the pairs' ratios, its 95 % interval comes from a bootstrap over pairs. Without --model, a U-Net of width 32
with random weights is exported first, which needs the extra `train`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

BARE = """
import sys
import numpy as np
import onnxruntime
from PIL import Image

model, scan, output = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
image = np.asarray(Image.open(scan))[None]
mask = session.run(["mask"], {"image": image})[0][0]
Image.fromarray(mask * np.uint8(255)).save(output)
"""


def export_net(path: Path) -> None:
    """A U-Net of width 32 for 256 x 256 x 3, random weights, through the package's own exporter."""
    import torch

    from segkit.export import write_onnx
    from segkit.model_metadata import ModelMetadata
    from segkit.models import build
    from segkit.models.deployed import DeployedNet

    torch.manual_seed(0)
    net = DeployedNet(build("unet", channels=3, classes=2, width=32).eval(), [0.5] * 3, [0.25] * 3)
    names = ("background", "tumour"), ("pre", "flair", "post")
    write_onnx(net, path, ModelMetadata("unet", 32, *names, (256, 256), "scale", (0, 255)))


def write_scan(path: Path) -> None:
    """A picture of 256 x 256 in three channels."""
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def seconds(command: list[str]) -> float:
    """Wall time of one process."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def time_pairs(bare: list[str], segkit: list[str], pairs: int) -> np.ndarray:
    """Seconds `[pairs, 2]` of the bare script and of segkit, after one run of each that warms the file cache."""
    seconds(bare)
    seconds(segkit)
    times = np.empty((pairs, 2))
    for pair in range(pairs):
        for which in (0, 1) if pair % 2 else (1, 0):
            times[pair, which] = seconds((bare, segkit)[which])
    return times


def report(times: np.ndarray) -> None:
    """Print medians, and the ratio with its interval."""
    ratios = times[:, 1] / times[:, 0]
    draws = np.random.default_rng(0).integers(0, len(ratios), (10_000, len(ratios)))
    low, high = np.percentile(np.median(ratios[draws], axis=1), [2.5, 97.5])
    print(f"bare script     {np.median(times[:, 0]):.3f} s (fastest {times[:, 0].min():.3f})")
    print(f"segkit segment  {np.median(times[:, 1]):.3f} s (fastest {times[:, 1].min():.3f})")
    print(
        f"ratio           {np.median(ratios):.3f} (95 % interval {low:.3f} to {high:.3f}, {len(ratios)} pairs)"
    )


def main() -> None:
    """Parse, prepare, time, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="a model.onnx for three channels")
    parser.add_argument("--pairs", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, scan = options.model or folder / "model.onnx", folder / "scan.tif"
        if options.model is None:
            export_net(model)
        write_scan(scan)
        script = folder / "bare.py"
        script.write_text(BARE, encoding="utf-8")
        bare = [sys.executable, str(script), str(model), str(scan), str(folder / "bare.tif")]
        installed = Path(sys.executable).parent / "segkit"
        start = [str(installed)] if installed.exists() else [sys.executable, "-m", "segkit"]
        segkit = [*start, "segment", str(scan), "--model", str(model), "--force", "--quiet"]
        times = time_pairs(bare, segkit, options.pairs)
        same = (folder / "bare.tif").exists() and (folder / "scan_mask.tif").exists()
        print(f"{' '.join(start)}, {os.cpu_count()} CPUs, {model}{'' if same else ': a mask is missing'}")
        report(times)


if __name__ == "__main__":
    main()
