"""`segkit serve` against bare ONNX Runtime, a FastAPI handler and LitServe, in one run.

    python -m benchmarks.serving [--rivals-python PYTHON] [--json benchmarks/results/serving.json]

Bars: a single slice takes at most 15 ms more than the bare call on the decoded array, at the median; 16 clients
get at least 0.9 times the throughput of a bare loop with its best batch; at 70 % load p99 is below 3 times p50;
both rivals are slower. All servers run at once and are measured in turn, so that a drifting machine touches all
alike; clients and servers share the cores. The rivals need fastapi and litserve: pip install fastapi litserve.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.segment_start import export_net
from benchmarks.serving_load import (
    Tally,
    Target,
    as_tiff,
    ask,
    client_session,
    closed_loop,
    open_loop,
    rival_server,
    segkit_server,
    slices,
)
from benchmarks.timing import machine, median
from segkit.inference.session import Model
from segkit.model_metadata import MASK
from segkit.resources import granted_cpus

BATCHES = (1, 2, 4, 8, 16)
CLIENTS = 16


def bare_loop(model: Model, batch: int, duration: float) -> float:
    """Slices a second of `session.run` in a loop."""
    images = np.stack(slices(batch))
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < duration:
        model.run([MASK], images)
        done += batch
    return done / (time.perf_counter() - began)


def latency(model: Model, targets: list[Target], bodies: list[bytes], rounds: int) -> dict[str, list[float]]:
    """Seconds of one request at a time, and of the bare call, in turn."""
    image = slices(1)[0][None]
    found: dict[str, list[float]] = {name: [] for name in ("bare", *(target.name for target in targets))}

    async def measure() -> None:
        async with client_session() as session:
            for number in range(rounds + 3):
                began = time.perf_counter()
                model.run([MASK], image)
                times = {"bare": time.perf_counter() - began}
                for target in targets:
                    tally = Tally()
                    await ask(session, target, bodies[0], None, tally)
                    times[target.name] = tally.seconds[0]
                if number >= 3:  # the first ones warm caches and connections up
                    for name, seconds in times.items():
                        found[name].append(seconds)

    asyncio.run(measure())
    return found


def throughput(
    model: Model, targets: list[Target], bodies: list[bytes], rounds: int, duration: float
) -> dict[str, Any]:
    """Slices a second of the bare loop at each batch and of each server, in turn."""
    bare: dict[int, list[float]] = {batch: [] for batch in BATCHES}
    served: dict[str, list[float]] = {target.name: [] for target in targets}
    for _ in range(rounds):
        for batch in BATCHES:
            bare[batch].append(bare_loop(model, batch, duration / 2))
        for target in targets:
            rate, tally = asyncio.run(closed_loop(target, bodies, CLIENTS, duration))
            if set(tally.statuses) != {200} or tally.lost:
                sys.exit(f"{target.name} failed: {tally.statuses}, {tally.lost} lost")
            served[target.name].append(rate)
    return {
        "bare": {batch: median(rates) for batch, rates in bare.items()},
        **{k: median(v) for k, v in served.items()},
    }


def load(target: Target, bodies: list[bytes], rate: float, duration: float, *, poisson: bool) -> dict[str, float]:
    """Percentiles at a given rate."""
    tally = asyncio.run(open_loop(target, bodies, rate, duration, poisson=poisson))
    return {
        "requests": len(tally.seconds),
        "refused": sum(tally.statuses.values()) - len(tally.seconds) + tally.lost,
        "p50": tally.percentile(50),
        "p99": tally.percentile(99),
    }


def report(figures: dict[str, Any]) -> bool:
    """Print the figures beside their bars; whether all are met."""
    middle = {name: median(values) for name, values in figures["latency"].items()}
    rates = figures["throughput"]
    best_batch, best = max(rates["bare"].items(), key=lambda item: item[1])
    print("one request at a time, median")
    for name, seconds in middle.items():
        print(f"  {name:10} {1000 * seconds:8.1f} ms  {1000 * (seconds - middle['bare']):+8.1f} ms")
    print(f"throughput, {CLIENTS} clients")
    loop = ", ".join(f"{batch}: {rate:.2f}" for batch, rate in rates["bare"].items())
    print(f"  bare loop  {best:8.2f} slices/s at batch {best_batch} ({loop})")
    others = [name for name in rates if name != "bare"]
    for name in others:
        print(f"  {name:10} {rates[name]:8.2f} slices/s  {rates[name] / best:.2f} of the bare loop")
    for kind, values in figures["load"].items():
        share = values["p99"] / values["p50"]
        print(
            f"70 % load, {kind}: {values['requests']} requests, {values['refused']} refused, "
            f"p50 {1000 * values['p50']:.0f} ms, p99 {1000 * values['p99']:.0f} ms, ratio {share:.2f}"
        )
    bars = {
        "at most 15 ms over the bare call": middle["segkit"] - middle["bare"] <= 0.015,
        "at least 0.9 of the bare loop": rates["segkit"] >= 0.9 * best,
    }
    for kind, values in figures["load"].items():
        bars[f"p99 below 3 times p50 at 70 % load, {kind}"] = values["p99"] < 3 * values["p50"]
    for name in others[1:]:
        bars[f"faster than {name}, one request"] = middle["segkit"] < middle[name]
        bars[f"faster than {name}, {CLIENTS} clients"] = rates["segkit"] > rates[name]
    for bar, met in bars.items():
        print(f"  {'met    ' if met else 'NOT MET'}  {bar}")
    return all(bars.values())


def main() -> None:
    """Parse, start everything, measure in turn, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a model.onnx for three channels of 256 x 256")
    parser.add_argument("--rivals-python", default=sys.executable, help="a Python with fastapi and litserve")
    parser.add_argument("--rivals", nargs="*", default=["fastapi", "litserve"])
    parser.add_argument("--rounds", type=int, default=30, help="single requests of each")
    parser.add_argument("--windows", type=int, default=3, help="throughput windows of each")
    parser.add_argument("--window-s", type=float, default=10.0)
    parser.add_argument("--load-s", type=float, default=120.0)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        path = options.model or Path(name) / "model.onnx"
        if options.model is None:
            export_net(path)
        targets = [stack.enter_context(segkit_server("--model", path))]
        rivals = (rival_server(options.rivals_python, kind, path) for kind in options.rivals)
        targets.extend(stack.enter_context(rival) for rival in rivals)
        model = Model.load(path, "cpu")
        bodies = [as_tiff(pixels) for pixels in slices(32)]
        figures: dict[str, Any] = {"machine": machine(), "cpus": granted_cpus()}
        figures["latency"] = latency(model, targets, bodies, options.rounds)
        figures["throughput"] = throughput(model, targets, bodies, options.windows, options.window_s)
        rate = 0.7 * figures["throughput"]["segkit"]
        figures["load"] = {
            kind: load(targets[0], bodies, rate, options.load_s, poisson=kind == "random")
            for kind in ("even", "random")
        }
    print(figures["machine"], f"({figures['cpus']} granted)")
    met = report(figures)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
