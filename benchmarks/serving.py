"""`segkit serve` against bare ONNX Runtime, a FastAPI handler and LitServe, in one run.

    python -m benchmarks.serving [--rivals-python PYTHON] [--json benchmarks/results/serving.json]

Bars: a single slice takes at most 15 ms more than the bare call on the decoded array, at the median; 16 clients
get at least 0.9 times the throughput of a bare loop with its best batch; at 70 % load p99 is below 3 times p50;
both rivals are slower. All servers run at once and are measured in turn, so that a drifting machine touches all
alike, with a pause before each single request: the threads of ONNX Runtime spin for some time after a call, on the
cores that the next one needs. The servers whose turn it is not are stopped: LitServe's processes look for work all the
time, and take a seventh of a core. Clients and servers share the cores. "Bare" is `onnxruntime.InferenceSession` with
its defaults. The rivals need fastapi and litserve: pip install fastapi litserve.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.segment_start import export_net
from benchmarks.serving_load import (
    Tally,
    Target,
    alone,
    arrivals,
    as_tiff,
    ask,
    client_session,
    closed_loop,
    conclude,
    open_loop,
    rival_server,
    segkit_server,
    slices,
)
from benchmarks.timing import machine, median
from segkit.model_metadata import INPUT, MASK
from segkit.resources import granted_cpus

BATCHES = (1, 2, 4, 8, 16)
CLIENTS = 16
PAUSE_S = 0.3

Bare = Callable[[NDArray[np.uint8]], Any]


def bare_call(path: Path) -> Bare:
    """`session.run` as the shortest program has it."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: session.run([MASK], {INPUT: images})


def bare_loop(bare: Bare, batch: int, duration: float) -> float:
    """Slices a second of `session.run` in a loop."""
    images = np.stack(slices(batch))
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < duration:
        bare(images)
        done += batch
    return done / (time.perf_counter() - began)


def latency(bare: Bare, targets: list[Target], bodies: list[bytes], rounds: int) -> dict[str, list[float]]:
    """Seconds of one request at a time, and of the bare call, in turn."""
    image = slices(1)[0][None]
    found: dict[str, list[float]] = {name: [] for name in ("bare", *(target.name for target in targets))}

    async def measure() -> None:
        async with client_session() as session:
            for number in range(rounds + 3):
                with alone(None, targets):
                    time.sleep(PAUSE_S)
                    began = time.perf_counter()
                    bare(image)
                    times = {"bare": time.perf_counter() - began}
                for target in targets:
                    tally = Tally()
                    with alone(target, targets):
                        await asyncio.sleep(PAUSE_S)
                        await ask(session, target, bodies[0], None, tally)
                    times[target.name] = tally.seconds[0]
                if number >= 3:  # the first ones warm caches and connections up
                    for name, seconds in times.items():
                        found[name].append(seconds)

    asyncio.run(measure())
    return found


def throughput(bare: Bare, targets: list[Target], bodies: list[bytes], rounds: int, duration: float) -> dict[str, Any]:
    """Slices a second of the bare loop at each batch and of each server, in turn."""
    loops: dict[int, list[float]] = {batch: [] for batch in BATCHES}
    served: dict[str, list[float]] = {target.name: [] for target in targets}
    for _ in range(rounds):
        with alone(None, targets):
            for batch in BATCHES:
                loops[batch].append(bare_loop(bare, batch, duration / 2))
        for target in targets:
            with alone(target, targets):
                rate, tally = asyncio.run(closed_loop(target, bodies, CLIENTS, duration))
            if set(tally.statuses) != {200} or tally.lost:
                sys.exit(f"{target.name} failed: {tally.statuses}, {tally.lost} lost")
            served[target.name].append(rate)
    return {"bare": {batch: median(rates) for batch, rates in loops.items()}, **served}


def load(
    target: Target, targets: list[Target], bodies: list[bytes], rate: float, duration: float, *, poisson: bool
) -> dict[str, float]:
    """Percentiles at a given rate."""
    with alone(target, targets):
        asyncio.run(closed_loop(target, bodies, 2, 2.0))  # it may have been stopped for long
        tally = asyncio.run(open_loop(target, bodies, rate, duration, poisson=poisson))
    return {
        "requests": len(tally.seconds),
        "refused": sum(tally.statuses.values()) - len(tally.seconds) + tally.lost,
        "p50": tally.percentile(50),
        "p99": tally.percentile(99),
    }


def ideal_queue(rate: float, duration: float, capacity: float, servers: int) -> float:
    """p99 / p50 of a queue without any loss: first come, first served, by `servers` that do `capacity` together.

    With the very arrivals of `load`: what no server of this capacity can do better in the order of arrival.
    """
    free = [0.0] * servers
    times = []
    for at in arrivals(rate, duration, poisson=True):
        first = min(range(servers), key=free.__getitem__)
        free[first] = max(at, free[first]) + servers / capacity
        times.append(free[first] - at)
    return float(np.percentile(times, 99) / np.percentile(times, 50))


def report(figures: dict[str, Any]) -> dict[str, bool]:
    """Print the figures; which bars are met."""
    middle = {name: median(values) for name, values in figures["latency"].items()}
    loops = figures["throughput"]["bare"]
    best_batch, best = max(loops.items(), key=lambda item: item[1])
    served = {name: values for name, values in figures["throughput"].items() if name != "bare"}
    rates = {name: median(values) for name, values in served.items()}
    others = [name for name in rates if name != "segkit"]
    print("one request at a time, median")
    for name, seconds in middle.items():
        print(f"  {name:10} {1000 * seconds:8.1f} ms  {1000 * (seconds - middle['bare']):+8.1f} ms")
    print(f"throughput, {CLIENTS} clients")
    loop = ", ".join(f"{batch}: {rate:.2f}" for batch, rate in loops.items())
    print(f"  bare loop  {best:8.2f} slices/s at batch {best_batch} ({loop})")
    for name, values in served.items():
        spread = f"[{min(values):.2f}, {max(values):.2f}]"
        print(f"  {name:10} {rates[name]:8.2f} slices/s {spread}, {rates[name] / best:.2f} of the bare loop")
    print("at 70 % of what segkit does with so many")
    bars = {
        "at most 15 ms over the bare call": middle["segkit"] - middle["bare"] <= 0.015,
        "at least 0.9 of the bare loop": rates["segkit"] >= 0.9 * best,
    }
    for name, kinds in figures["load"].items():
        for kind, values in kinds.items():
            share = values["p99"] / values["p50"]
            print(
                f"  {name:10} {kind} arrivals: {values['requests']} requests, {values['refused']} refused, "
                f"p50 {1000 * values['p50']:.0f} ms, p99 {1000 * values['p99']:.0f} ms, ratio {share:.2f}"
            )
            if name == "segkit":
                bars[f"p99 below 3 times p50 at 70 % load, {kind} arrivals"] = share < 3
    print(f"  a queue without loss, with the same random arrivals: ratio {figures['ideal']:.2f}")
    for name in others:
        bars[f"faster than {name}, one request"] = middle["segkit"] < middle[name]
        bars[f"faster than {name}, {CLIENTS} clients"] = rates["segkit"] > rates[name]
    return bars


def main() -> None:
    """Parse, start everything, measure in turn, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a model.onnx for three channels of 256 x 256")
    parser.add_argument("--rivals-python", default=sys.executable, help="a Python with fastapi and litserve")
    parser.add_argument("--rivals", nargs="*", default=["fastapi", "litserve"])
    parser.add_argument("--rounds", type=int, default=30, help="single requests of each")
    parser.add_argument("--windows", type=int, default=4, help="throughput windows of each")
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
        bare = bare_call(path)
        bodies = [as_tiff(pixels) for pixels in slices(32)]
        figures: dict[str, Any] = {"machine": machine(), "cpus": granted_cpus()}
        figures["latency"] = latency(bare, targets, bodies, options.rounds)
        figures["throughput"] = throughput(bare, targets, bodies, options.windows, options.window_s)
        capacity = median(figures["throughput"]["segkit"])
        rate = 0.7 * capacity
        figures["ideal"] = ideal_queue(rate, options.load_s, capacity, figures["cpus"])
        figures["load"] = {
            target.name: {
                kind: load(target, targets, bodies, rate, options.load_s, poisson=kind == "random")
                for kind in (("even", "random") if target is targets[0] else ("random",))
            }
            for target in targets
        }
    print(figures["machine"], f"({figures['cpus']} granted)")
    conclude(report(figures), figures, options.json)


if __name__ == "__main__":
    main()
