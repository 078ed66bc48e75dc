"""Shared by the serving benchmarks: servers as processes of their own, and clients that load them."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import aiohttp
import numpy as np
from numpy.typing import NDArray
from PIL import Image

SLICE = 256


@dataclass
class Target:
    """A server under load."""

    name: str
    url: str  # of the endpoint that takes the form
    process: int


@dataclass
class Tally:
    """What clients saw."""

    seconds: list[float] = field(default_factory=list)  # of each answer with status 200
    statuses: dict[int, int] = field(default_factory=dict)
    wrong: int = 0
    lost: int = 0  # connections that broke

    def count(self, status: int) -> None:
        """Add an answer."""
        self.statuses[status] = self.statuses.get(status, 0) + 1

    def percentile(self, share: float) -> float:
        """Seconds in which that share of the answers came."""
        return float(np.percentile(self.seconds, share)) if self.seconds else float("nan")


@contextlib.contextmanager
def segkit_server(*flags: object) -> Iterator[Target]:
    """`segkit serve` with these flags."""
    with running([sys.executable, "-m", "segkit", "serve", "--port", "0", *map(str, flags)]) as (process, log):
        for _ in range(600):
            found = re.search(r"at http://127\.0\.0\.1:(\d+)/", log.read_text())
            if found and _answers(int(found[1])):
                yield Target("segkit", f"http://127.0.0.1:{found[1]}/segment", process.pid)
                return
            time.sleep(0.1)
        raise SystemExit(f"the server did not start: {log.read_text()}")


@contextlib.contextmanager
def rival_server(python: str, kind: str, model: Path) -> Iterator[Target]:
    """`serving_fastapi.py` or `serving_litserve.py`."""
    port = _free_port()
    script = Path(__file__).with_name(f"serving_{kind}.py")
    with running([python, str(script), str(model), str(port)]) as (process, log):
        for _ in range(600):
            target = Target(kind, f"http://127.0.0.1:{port}/segment", process.pid)
            if _answers(port) and asyncio.run(_first(target)):  # LitServe listens before its worker has the model
                yield target
                return
            if process.poll() is not None:
                break
            time.sleep(0.1)
        raise SystemExit(f"{kind} did not start: {log.read_text()[-2000:]}")


@contextlib.contextmanager
def alone(target: Target | None, targets: list[Target]) -> Iterator[None]:
    """Stop the processes of all other servers meanwhile: some look for work all the time, and take from the rest."""
    others = [other for other in targets if other is not target]
    for other in others:
        os.killpg(other.process, signal.SIGSTOP)
    try:
        yield
    finally:
        for other in others:
            os.killpg(other.process, signal.SIGCONT)


@contextlib.contextmanager
def running(words: list[str]) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A process in a group of its own, ended with all its children; its standard error is in the file."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: no server outlives the benchmark
        with log.open("wb") as file:
            process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=file, start_new_session=True)
        try:
            yield process, log
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def slices(count: int, seed: int = 0) -> list[NDArray[np.uint8]]:
    """Pictures of 256 x 256 in three channels: smooth, as anatomy is, with noise."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (12, 12, 3), np.uint8))
        smooth = np.asarray(coarse.resize((SLICE, SLICE), Image.Resampling.BICUBIC)).astype(np.int16)
        noise = random.integers(-8, 9, smooth.shape)
        found.append(np.clip(smooth + noise, 0, 255).astype(np.uint8))
    return found


def as_tiff(pixels: NDArray[np.uint8]) -> bytes:
    """As the LGG set has them: uncompressed."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "TIFF")
    return buffer.getvalue()


def agrees(content: bytes, expected: NDArray[np.uint8]) -> bool:
    """Whether a mask file says what the net said alone: a batch of another size rounds a few pixels otherwise."""
    mask = np.asarray(Image.open(io.BytesIO(content)))
    return mask.shape == expected.shape and float(np.mean((mask > 0) == (expected > 0))) >= 0.9999


async def ask(
    session: aiohttp.ClientSession, target: Target, body: bytes, expected: NDArray[np.uint8] | None, tally: Tally
) -> None:
    """One request."""
    form = aiohttp.FormData()
    form.add_field("scan", body, filename="scan.tif", content_type="image/tiff")
    began = time.perf_counter()
    try:
        async with session.post(target.url, data=form) as response:
            content = await response.read()
    except (aiohttp.ClientError, TimeoutError, ConnectionError):
        tally.lost += 1
        return
    tally.count(response.status)
    if response.status == 200:
        tally.seconds.append(time.perf_counter() - began)
        if expected is not None and not agrees(content, expected):
            tally.wrong += 1


async def closed_loop(target: Target, bodies: list[bytes], clients: int, duration: float) -> tuple[float, Tally]:
    """`clients` that each ask again as soon as they have an answer; answers a second."""
    tally = Tally()
    async with client_session() as session:
        end = time.perf_counter() + duration

        async def client(number: int) -> None:
            at = number
            while time.perf_counter() < end:
                await ask(session, target, bodies[at % len(bodies)], None, tally)
                at += clients

        began = time.perf_counter()
        await asyncio.gather(*(client(number) for number in range(clients)))
        took = time.perf_counter() - began
    return len(tally.seconds) / took, tally


def arrivals(rate: float, duration: float, *, poisson: bool) -> Iterator[float]:
    """Seconds at which requests are sent, the same for the same arguments."""
    random = np.random.default_rng(1)
    at = 0.0
    while at < duration:
        yield at
        at += float(random.exponential(1 / rate)) if poisson else 1 / rate


async def open_loop(
    target: Target,
    bodies: list[bytes],
    rate: float,
    duration: float,
    *,
    poisson: bool,
    expected: list[NDArray[np.uint8]] | None = None,
    each_second: Callable[[], None] = lambda: None,
) -> Tally:
    """Requests at `rate` a second, whether or not earlier ones are answered."""
    tally = Tally()
    waiting: set[asyncio.Task[None]] = set()
    async with client_session() as session:
        began = told = time.perf_counter()
        for number, at in enumerate(arrivals(rate, duration, poisson=poisson)):
            delay = began + at - time.perf_counter()
            if delay > 0:
                await asyncio.sleep(delay)
            index = number % len(bodies)
            truth = expected[index] if expected else None
            task = asyncio.create_task(ask(session, target, bodies[index], truth, tally))
            waiting.add(task)
            task.add_done_callback(waiting.discard)
            if time.perf_counter() - told >= 1:
                told = time.perf_counter()
                each_second()
        await asyncio.gather(*waiting)
    return tally


def resident(process: int) -> int:
    """Bytes of memory of a process."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def client_session() -> aiohttp.ClientSession:
    """Without a limit of its own on connections."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=120), auto_decompress=False
    )


async def _first(target: Target) -> bool:
    tally = Tally()
    async with client_session() as session:
        await ask(session, target, as_tiff(slices(1)[0]), None, tally)
    return bool(tally.seconds)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def conclude(bars: dict[str, bool], figures: dict[str, Any], output: Path | None) -> NoReturn:
    """Say which bars are met, write the figures down, and end: exit code 1 where a bar is not met."""
    for bar, met in bars.items():
        print(f"  {'met    ' if met else 'NOT MET'}  {bar}")
    if output:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    sys.exit(0 if all(bars.values()) else 1)
