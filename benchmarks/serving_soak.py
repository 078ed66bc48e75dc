"""`segkit serve` at twice what it can do, for ten minutes.

    python -m benchmarks.serving_soak [--minutes 10]

Bars: no crash; memory flat within 5 % after the first tenth; every accepted request answered right (its mask is
compared with that of the net alone), the rest 503.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.segment_start import export_net
from benchmarks.serving_load import as_tiff, closed_loop, conclude, open_loop, resident, segkit_server, slices
from benchmarks.timing import machine
from segkit.inference.session import Model


def main() -> None:
    """Parse, find the capacity, load twice that, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a model.onnx for three channels of 256 x 256")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        path = options.model or Path(name) / "model.onnx"
        if options.model is None:
            export_net(path)
        model = Model.load(path, "cpu")
        pixels = slices(16)
        masks = [model.masks(one[None])[0] for one in pixels]
        bodies = [as_tiff(one) for one in pixels]
        with segkit_server("--model", path) as target:
            capacity, _ = asyncio.run(closed_loop(target, bodies, 16, 15))
            memory: list[int] = []
            tally = asyncio.run(
                open_loop(
                    target,
                    bodies,
                    2 * capacity,
                    60 * options.minutes,
                    poisson=True,
                    expected=masks,
                    each_second=lambda: memory.append(resident(target.process)),
                )
            )
            alive = Path(f"/proc/{target.process}").exists()
    settled = np.array(memory[len(memory) // 10 :]) / 2**20
    thirds = np.array_split(settled, 3)
    growth = float(np.median(thirds[-1]) / np.median(thirds[0]) - 1)
    figures = {
        "machine": machine(),
        "minutes": options.minutes,
        "capacity": capacity,
        "statuses": tally.statuses,
        "lost": tally.lost,
        "wrong": tally.wrong,
        "memory_mb": [round(float(value)) for value in (settled.min(), np.median(settled), settled.max())],
        "growth": growth,
    }
    print(figures["machine"])
    print(f"{options.minutes:g} minutes at {2 * capacity:.1f} requests/s, twice the capacity")
    print(f"  answers   {dict(sorted(tally.statuses.items()))}, {tally.lost} connections lost, {tally.wrong} wrong")
    print(f"  200       p50 {tally.percentile(50):.2f} s, p99 {tally.percentile(99):.2f} s")
    print(f"  memory    {settled.min():.0f} to {settled.max():.0f} MB; last third {100 * growth:+.1f} % of the first")
    bars = {
        "no crash": alive,
        "only 200 and 503": set(tally.statuses) <= {200, 503} and not tally.lost,
        "every mask right": not tally.wrong and bool(tally.seconds),
        "memory flat within 5 %": abs(growth) <= 0.05,
    }
    conclude(bars, figures, options.json)


if __name__ == "__main__":
    main()
