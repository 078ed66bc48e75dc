"""From the shell to a mask: `segkit segment` against the shortest script that does it. Bar: at most 1.3x.

    python -m benchmarks.segment_start [--model model.onnx] [--rounds 15]

Each round runs both as processes of their own, one after the other. Without --model, a U-Net of width 32
with random weights is exported first, which needs the extra `train`.
"""

from __future__ import annotations

import argparse
import functools
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.timing import alternate, machine, median, ratio

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


def export_net(path: Path, width: int = 32) -> None:
    """A U-Net for 256 x 256 x 3, random weights, through the package's own exporter."""
    import torch

    from segkit.export.onnx_model import export_onnx
    from segkit.model_metadata import ModelMetadata
    from segkit.models.deployed import DeployedNet
    from segkit.models.normalise import Normalise
    from segkit.models.registry import build

    torch.manual_seed(0)
    net = DeployedNet(build("unet", in_channels=3, classes=2, width=width), Normalise([0.5] * 3, [0.25] * 3))
    names = ("background", "tumour"), ("pre", "flair", "post")
    export_onnx(net, ModelMetadata("unet", width, *names, (256, 256), "scale", (0, 255)), path)


def write_scan(path: Path) -> None:
    """A picture of 256 x 256 in three channels."""
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def same_pixels(one: Path, other: Path) -> bool:
    """Whether two pictures are equal."""
    from PIL import Image

    return np.array_equal(np.asarray(Image.open(one)), np.asarray(Image.open(other)))


def seconds(command: list[str]) -> float:
    """Wall time of one process."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def commands(folder: Path, model: Path) -> tuple[list[str], list[str]]:
    """The bare script and segkit, each for the same scan in `folder`."""
    scan, script = folder / "scan.tif", folder / "bare.py"
    write_scan(scan)
    script.write_text(BARE, encoding="utf-8")
    bare = [sys.executable, str(script), str(model), str(scan), str(folder / "bare.tif")]
    installed = Path(sys.executable).parent / "segkit"
    start = [str(installed)] if installed.exists() else [sys.executable, "-m", "segkit"]
    return bare, [*start, "segment", str(scan), "--model", str(model), "--force", "--quiet"]


def main() -> None:
    """Parse, prepare, time, compare the two masks, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a model.onnx for three channels")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = options.model or folder / "model.onnx"
        if options.model is None:
            export_net(model)
        bare, segkit = commands(folder, model)
        measures = [functools.partial(seconds, command) for command in (bare, segkit)]
        alternate(measures, 1)  # fills the file cache
        first, second = alternate(measures, options.rounds)
        if not same_pixels(folder / "bare.tif", folder / "scan_mask.tif"):
            sys.exit("the two masks differ")
    middle, low, high = ratio(second, first)
    print(machine())
    print(f"bare script     {median(first):.3f} s (fastest {min(first):.3f})")
    print(f"segkit segment  {median(second):.3f} s (fastest {min(second):.3f})")
    print(f"ratio           {middle:.3f} (95 % interval {low:.3f} to {high:.3f}, {options.rounds} rounds)")


if __name__ == "__main__":
    main()
