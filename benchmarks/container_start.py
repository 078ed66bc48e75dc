"""`apptainer run segkit.sif segment scan.tif` against the same command outside. Bar: at most 0.5 s more.

    python -m benchmarks.container_start segkit.sif [--outside "COMMAND"] [--rounds 15] [--output results.json]

Each round runs three processes one after the other, with warm files: segkit outside, segkit in the image, and
`apptainer exec segkit.sif true`, which is Apptainer's own share. COMMAND is by default the segkit of this Python; to
have the image's own packages outside, too, take `/opt/segkit` out of it: `sif/opt/segkit/bin/python -m segkit` after
`unsquashfs -d sif -o OFFSET segkit.sif opt/segkit`, where the host has the same Python as the image. Run it as a user
without rights, as on a cluster: root mounts the image in another way.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.segment_start import export_net, same_pixels, seconds, write_scan
from benchmarks.timing import alternate, machine, median, ratio


def difference(first: Sequence[float], second: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """Median of the pairwise differences first - second, with its 95 % bootstrap interval."""
    differences = np.asarray(first) - np.asarray(second)
    picks = np.random.default_rng(seed).integers(0, len(differences), (4000, len(differences)))
    low, high = np.percentile(np.median(differences[picks], axis=1), (2.5, 97.5))
    return float(np.median(differences)), float(low), float(high)


def measure(sif: Path, outside: list[str], model: Path | None, rounds: int) -> list[list[float]]:
    """Seconds of each round: outside, in the image, Apptainer alone. The two masks have to be equal."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chdir(folder)  # Apptainer shows a run the working directory
        scans = [folder / "outside.tif", folder / "inside.tif"]
        for scan in scans:
            write_scan(scan)
        if model is None:
            export_net(folder / "model.onnx")
        else:
            (folder / "model.onnx").write_bytes(model.read_bytes())
        words = ["--model", "model.onnx", "--force", "--quiet"]
        start = ["apptainer", "--silent"]
        commands = [
            [*outside, "segment", scans[0].name, *words],
            [*start, "run", str(sif), "segment", scans[1].name, *words],
            [*start, "exec", str(sif), "true"],
        ]
        measures = [functools.partial(seconds, command) for command in commands]
        alternate(measures, 2)  # fills the file cache
        times = alternate(measures, rounds)
        if not same_pixels(folder / "outside_mask.tif", folder / "inside_mask.tif"):
            sys.exit("the two masks differ")
        os.chdir("/")
    return times


def main() -> None:
    """Parse, time, print, and write the figures where they are wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sif", type=Path)
    parser.add_argument("--outside", type=shlex.split, default=[str(Path(sys.executable).parent / "segkit")])
    parser.add_argument("--model", type=Path, help="a model.onnx for three channels; by default a U-Net of width 32")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--output", type=Path, help="a JSON file for the figures")
    options = parser.parse_args()
    output = options.output.resolve() if options.output else None
    model = options.model.resolve() if options.model else None
    sif = options.sif.resolve()
    outside, inside, apptainer = measure(sif, options.outside, model, options.rounds)
    version = subprocess.run(["apptainer", "--version"], check=True, capture_output=True, text=True).stdout.strip()
    middle, low, high = difference(inside, outside)
    factor, lowest, highest = ratio(inside, outside)
    print(f"{machine()}, {version}")
    print(f"outside                  {median(outside):.3f} s (fastest {min(outside):.3f})")
    print(f"in {sif.name:<21} {median(inside):.3f} s (fastest {min(inside):.3f})")
    print(f"Apptainer alone          {median(apptainer):.3f} s (fastest {min(apptainer):.3f})")
    print(f"difference               {middle:.3f} s (95 % interval {low:.3f} to {high:.3f}, {options.rounds} rounds)")
    print(f"ratio                    {factor:.3f} (95 % interval {lowest:.3f} to {highest:.3f})")
    if output:
        figures = {
            "machine": f"{machine()}, {version}",
            "image": {"name": sif.name, "bytes": sif.stat().st_size},
            "seconds": {"outside": outside, "inside": inside, "apptainer": apptainer},
            "difference_s": [middle, low, high],
            "ratio": [factor, lowest, highest],
        }
        output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
