"""The GPU's share of the study: whole trainings over workers, loaders, precisions, batches and compile.

    python -m benchmarks.gpu_study [--output FILE] [--minutes 5] [--device cuda|cpu] [--quick]

`segkit bench sweep` measures U-Net of width 64 on a phantom with slices of 256 x 256, one setting a process, the most
telling ones first, until the time is up. Rows have images/s, the net's share of the chip's dense rate, stalls, NVML
utilisation and GPM activity. The bar on one H100: at least 1,300 images/s in bf16, at least 40 % of the
dense bf16 rate, and under 1 % of the time waiting for data.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.gpu_peak import share_of_peak
from segkit.bench.rows import Row, StudyFolder
from segkit.data.phantom import write_phantom

ROOT = Path(__file__).parent.parent
Settings = dict[str, str]
# Each is a small grid around the last line of the one before: axis -> values, as `segkit bench sweep` takes them.
GRIDS: dict[str, Settings] = {
    "workers": {"loader": "files", "workers": "0,1,2,4,8,16"},
    "loaders": {"loader": "packed,resident", "workers": "0,4"},
    "precision": {"loader": "resident", "precision": "fp32,bf16,fp16"},
    "batch": {"loader": "resident", "batch": "16,32,64,128"},
    "compile": {"loader": "resident", "batch": "64", "compile": "off,on", "channels-last": "off,on"},
    "deterministic": {"loader": "resident", "deterministic": "on,off"},
}
COMMON = {
    "model": "unet", "width": "64", "batch": "32", "precision": "bf16", "deterministic": "off", "steps": "120"
}  # fmt: skip
LEAST_IMAGES, LEAST_SHARE, MOST_STALL = 1300.0, 0.4, 0.01  # the bar on one H100 (SXM)
QUICK = {"model": "unet", "width": "4", "batch": "4", "precision": "fp32", "steps": "20"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("gpu-study.json"))
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="A tiny net on small slices, two grids.")
    arguments = parser.parse_args()
    rows = study(arguments.device, arguments.minutes, quick=arguments.quick)
    print(bar(rows))
    arguments.output.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def study(device: str, minutes: float, *, quick: bool = False) -> list[dict[str, Any]]:
    """Measure the grids until the time is up; the rows so far."""
    end = time.monotonic() + 60 * minutes
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        data = Path(name) / "phantom"
        size = 64 if quick else 256
        write_phantom(data, patients=16 if quick else 40, slices=8 if quick else 32, size=size)
        for grid in list(GRIDS)[: 2 if quick else None]:
            settings = {**(QUICK if quick else COMMON), **GRIDS[grid], "device": device, "data": str(data)}
            if quick:
                settings["workers"] = "0,1"
            folder = StudyFolder(Path(name) / grid)
            sweep(folder, settings, end - time.monotonic())
            rows += [told(grid, row, size) for row in folder.rows()]
            for row in rows[-len(folder.rows()) :]:
                print(row, flush=True)
            if time.monotonic() >= end:
                break
    return rows


def bar(rows: Sequence[dict[str, Any]]) -> str:
    """What the fastest bf16 setting says to the bar, in a line."""
    there = [row for row in rows if row["images_per_s"] and row["settings"].get("precision") == "bf16"]
    if not there:
        return "bar: no bf16 setting was measured"
    best = max(there, key=lambda row: row["images_per_s"])
    parts = best["parts"]
    stall = (parts.get("starved", 0.0) + parts.get("copy", 0.0)) / sum(parts.values())
    met = best["images_per_s"] >= LEAST_IMAGES and (best["share_of_peak"] or 0) >= LEAST_SHARE and stall < MOST_STALL
    share = f"{100 * best['share_of_peak']:.1f} %" if best["share_of_peak"] is not None else "an unknown share"
    return (
        f"bar {'met' if met else 'NOT met'}: {best['images_per_s']:.0f} images/s, {share} of the dense rate, "
        f"{100 * stall:.2f} % waiting, on {best['device_name']}: {best['settings']}"
    )


def sweep(folder: StudyFolder, settings: Settings, seconds: float) -> None:
    """Run `segkit bench sweep` for at most so long; what it measured until then is kept."""
    words: Sequence[str] = [word for key, value in settings.items() for word in (f"--{key}", value)]
    command = [sys.executable, "-m", "segkit", "bench", "sweep", "-o", str(folder.path), "--repeats", "1", *words]
    process = subprocess.Popen(command, cwd=ROOT, stdout=sys.stderr)
    try:
        process.wait(max(1.0, seconds))
    except subprocess.TimeoutExpired:
        process.terminate()  # it ends its training and says how to go on
        process.wait()


def told(grid: str, row: Row, size: int) -> dict[str, Any]:
    """A row's figures, and how much of the chip's dense rate the net uses."""
    share = None
    if row.images_per_s is not None and row.gflops is not None:
        precision = str(row.settings.get("precision", "fp32"))
        share = share_of_peak(3 * row.gflops * 1e9 * row.images_per_s, row.device_name, precision)
    return {"grid": grid, "size": size, "share_of_peak": share, **asdict(row)}


if __name__ == "__main__":
    main()
