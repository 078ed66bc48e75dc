"""A thousand hostile uploads against `segkit serve`.

    python -m benchmarks.serving_hostile [--count 1000] [--files DIR] [--seed 0]

Files of test suites for broken images (--files), mutations of good ones (bytes flipped, cut, doubled, spliced),
bombs (gzip, zip, claims of huge sizes), forms and tensors that lie, slow sends and aborted sends. Bars: no status
from 500 on but 503; every connection that asks for an answer gets one in time; afterwards good uploads are
answered, and memory is back where it was before (within 10 % or 32 MB). "Before" is after half as many other
attacks, because readers are imported and buffers made on first use.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import gzip
import io
import json
import struct
import tempfile
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.serving_load import Target, as_tiff, conclude, resident, segkit_server, slices
from benchmarks.timing import machine

PATIENCE_S = 60.0  # an answer that takes longer is a hang
AT_ONCE = 8


@dataclass(frozen=True)
class Attack:
    """What is sent, and how: whole, slowly, or only `share` of it before the connection is dropped."""

    kind: str
    body: bytes
    path: str = "/segment"
    headers: str = ""
    manner: str = "whole"
    share: float = 1.0


@dataclass
class Outcome:
    """What came of all of them."""

    statuses: Counter[int] = field(default_factory=Counter)
    worst: list[str] = field(default_factory=list)  # answers that must not be
    hung: int = 0
    slowest: float = 0.0


def attacks(count: int, files: list[bytes], seed: int) -> Iterator[Attack]:
    """`count` of them, the same for the same seed."""
    random = np.random.default_rng(seed)
    good = [*seeds(), *files]
    makers = [mutation] * 10 + [bomb, lie, aborted, slow, raw] * 2
    for number in range(count):
        if number < len(files):
            yield Attack("file", files[number])
        else:
            yield makers[number % len(makers)](random, good)


def seeds() -> list[bytes]:
    """Small good files of each kind."""
    from PIL import Image

    found = [as_tiff(slices(1)[0][:96, :96])]
    for kind, options in (
        ("PNG", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
        ("TIFF", {"compression": "packbits"}),
    ):
        buffer = io.BytesIO()
        Image.fromarray(slices(1)[0][:64, :64]).save(buffer, kind, **options)
        found.append(buffer.getvalue())
    volume = nifti((24, 20, 10)) + np.arange(24 * 20 * 10, dtype="<i2").tobytes()
    found += [volume, gzip.compress(volume)]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for index in range(3):
            archive.writestr(f"s{index}.tif", found[0])
    return [*found, buffer.getvalue()]


def nifti(shape: tuple[int, ...], kind: int = 4, bits: int = 16) -> bytes:
    """A NIfTI-1 header and its four bytes without extensions."""
    head = bytearray(352)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, len(shape), *shape, *[1] * (7 - len(shape)))
    struct.pack_into("<2h", head, 70, kind, bits)
    struct.pack_into("<8f", head, 76, 1, 1, 1, 1, 1, 1, 1, 1)
    struct.pack_into("<f", head, 108, 352)
    head[344:348] = b"n+1\0"
    return bytes(head)


def mutation(random: np.random.Generator, good: list[bytes]) -> Attack:
    """A good file with some bytes changed, cut off, doubled or from another file."""
    body = bytearray(good[random.integers(len(good))] or b"\0")
    how = random.integers(5)
    if how == 0:
        for _ in range(random.integers(1, 20)):
            body[random.integers(len(body))] = random.integers(256)
    elif how == 1:
        for _ in range(random.integers(1, 6)):  # where the headers are
            body[random.integers(min(len(body), 400))] = random.choice((0, 1, 0x7F, 0x80, 0xFF))
    elif how == 2:
        del body[random.integers(len(body)) :]
    elif how == 3:
        at = random.integers(len(body))
        body[at:at] = body[: random.integers(1, 4096)]
    else:
        other = good[random.integers(len(good))]
        body[len(body) // 2 :] = other[len(other) // 2 :]
    answer = random.choice(("mask", "measures", "overlay", "events"))
    return Attack("mutation", bytes(body), f"/segment?answer={answer}&pixels=true")


def bomb(random: np.random.Generator, good: list[bytes]) -> Attack:
    """Small files that are, or claim to be, huge."""
    which = random.integers(6)
    size = int(random.choice((300, 600))) * 2**20
    if which == 0:
        return Attack("gzip body", _zeros(size, 16 + zlib.MAX_WBITS), headers="Content-Encoding: gzip\r\n")
    if which == 1:
        packer = zlib.compressobj(9, wbits=16 + zlib.MAX_WBITS)
        start = packer.compress(nifti((1024, 1024, 60)))
        return Attack("nifti in gzip", start + packer.compress(bytes(2**20)) + packer.flush())
    if which == 2:
        return Attack("zip", _zip_of_zeros())
    if which == 3:
        header = b"IHDR" + struct.pack(">IIBBBBB", 65000, 65000, 8, 2, 0, 0, 0)
        png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
        return Attack("png claim", png + good[1][33:])
    if which == 4:
        return Attack("nifti claim", nifti((32767, 32767, 32767), 64, 64) + bytes(4096))
    entries = b"".join(b"PK\x01\x02" + bytes(42) for _ in range(200_000))
    end = b"PK\x05\x06" + struct.pack("<4H2IH", 0, 0, 65535, 65535, len(entries), 4, 0)
    return Attack("zip directory", b"PK\x03\x04" + entries + end)


def lie(random: np.random.Generator, good: list[bytes]) -> Attack:
    """Forms and tensors that are not what they say."""
    which = random.integers(5)
    infer = "/v2/models/{model}/infer"
    if which == 0:
        tensor = {"name": "image", "datatype": "UINT8", "shape": [2**20, 2**20, 2**20, 3], "data": [1]}
        return Attack("tensor", json.dumps({"inputs": [tensor]}).encode(), infer)
    if which == 1:
        return Attack("deep JSON", b'{"inputs":' * 50_000, infer)
    if which == 2:
        return Attack("tensor header", b"{}" + bytes(100), infer, "Inference-Header-Content-Length: 999999\r\n")
    form = "Content-Type: multipart/form-data; boundary=b\r\n"
    if which == 3:
        parts = b"".join(b'--b\r\nContent-Disposition: form-data; name="x%d"\r\n\r\n1\r\n' % n for n in range(5000))
        return Attack("form", parts + b"--b--\r\n", headers=form)
    name = "../" * 50 + "etc/passwd"
    head = f'--b\r\nContent-Disposition: form-data; name="scan"; filename="{name}"\r\n\r\n'.encode()
    return Attack("form name", head + good[random.integers(len(good))] + b"\r\n--b--\r\n", headers=form)


def aborted(random: np.random.Generator, good: list[bytes]) -> Attack:
    """A good file whose sender leaves, before or after its end."""
    share = float(random.choice((0.2, 0.9, 1.0)))
    return Attack("aborted", good[random.integers(len(good))], manner="abort", share=share)


def slow(random: np.random.Generator, good: list[bytes]) -> Attack:
    """A file that comes a few bytes at a time."""
    return Attack("slow", good[random.integers(len(good))], manner="slow")


def raw(random: np.random.Generator, good: list[bytes]) -> Attack:
    """No file at all."""
    return Attack("noise", random.bytes(int(random.integers(0, 5000))))


@functools.cache
def _zip_of_zeros() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.tif", "w") as member:
        for _ in range(300):
            member.write(bytes(2**20))
    return buffer.getvalue()


@functools.cache
def _zeros(size: int, wbits: int) -> bytes:
    packer = zlib.compressobj(9, wbits=wbits)
    return b"".join(packer.compress(bytes(2**20)) for _ in range(size // 2**20)) + packer.flush()


async def send(host: str, port: int, attack: Attack, model: str, outcome: Outcome) -> None:
    """One attack on a connection of its own."""
    began = time.perf_counter()
    try:
        async with asyncio.timeout(PATIENCE_S):
            status = await _exchange(host, port, attack, model)
    except TimeoutError:
        outcome.hung += 1
        outcome.worst.append(f"{attack.kind}: no answer")
        return
    except OSError:
        status = 0  # the server has cut the connection
    outcome.slowest = max(outcome.slowest, time.perf_counter() - began)
    outcome.statuses[status] += 1
    if status >= 500 and status != 503:
        outcome.worst.append(f"{attack.kind}: {status}")


async def _exchange(host: str, port: int, attack: Attack, model: str) -> int:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        path = attack.path.format(model=model)
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(attack.body)}\r\n"
        writer.write(f"{head}{attack.headers}Connection: close\r\n\r\n".encode())
        if attack.manner == "abort":
            writer.write(attack.body[: int(len(attack.body) * attack.share)])
            await writer.drain()
            return 0
        if attack.manner == "slow":
            return await _drip(reader, writer, attack.body)
        with contextlib.suppress(OSError):  # refused while it was being sent; the answer is there to read
            writer.write(attack.body)
            await writer.drain()
        return await _status(reader)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> int:
    answer = asyncio.ensure_future(_status(reader))
    for start in range(0, len(body), 8):
        with contextlib.suppress(OSError):
            writer.write(body[start : start + 8])
            await writer.drain()
        done, _ = await asyncio.wait({answer}, timeout=0.1)
        if done:
            break
    return await answer


async def _status(reader: asyncio.StreamReader) -> int:
    line = await reader.readline()
    while await reader.read(65536):
        pass
    return int(line.split()[1]) if line.startswith(b"HTTP/") else 0


async def storm(target: Target, model: str, count: int, files: list[bytes], seed: int) -> Outcome:
    """All attacks, some at once."""
    host, port = target.url.removeprefix("http://").partition("/")[0].split(":")
    outcome = Outcome()
    turns = asyncio.Semaphore(AT_ONCE)
    running: set[asyncio.Task[None]] = set()

    async def one(attack: Attack) -> None:
        try:
            await send(host, int(port), attack, model, outcome)
        finally:
            turns.release()

    made = attacks(count, files, seed)
    # In a thread, so that making a bomb does not keep the clients from reading their answers.
    while (attack := await asyncio.to_thread(next, made, None)) is not None:
        await turns.acquire()
        task = asyncio.create_task(one(attack))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)
    return outcome


def read_files(folder: Path | None) -> list[bytes]:
    """All files below a folder."""
    return [path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()] if folder else []


def main() -> None:
    """Parse, storm twice (the first warms the memory up), check, print."""
    from tests.threshold_model import threshold_metadata, write_threshold_model

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a model.onnx; without it, a threshold written for this")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--files", type=Path, help="a folder of broken files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    files = read_files(options.files)
    with tempfile.TemporaryDirectory() as name:
        model = options.model
        if model is None:
            model = write_threshold_model(Path(name) / "model.onnx", threshold_metadata(size=(256, 256)))
        with segkit_server("--model", f"net={model}", "--grace-s", 3) as target:
            cold = resident(target.process)
            asyncio.run(storm(target, "net", max(200, options.count // 2), files, options.seed + 1))
            before = settled(target)
            outcome = asyncio.run(storm(target, "net", options.count, files, options.seed))
            after = settled(target)
            good = still_right(target)
            alive = Path(f"/proc/{target.process}").exists()
    figures = {
        "machine": machine(),
        "count": options.count,
        "statuses": dict(sorted(outcome.statuses.items())),
        "hung": outcome.hung,
        "slowest_s": round(outcome.slowest, 2),
        "memory_mb": [round(value / 2**20) for value in (cold, before, after)],
        "worst": outcome.worst[:20],
    }
    bars = {
        "no crash": alive,
        "no 5xx but 503": not any(status >= 500 and status != 503 for status in outcome.statuses),
        "no hang": outcome.hung == 0,
        "good uploads are served afterwards": good,
        "memory is back": after <= max(1.1 * before, before + 32 * 2**20),
    }
    print(figures["machine"])
    print(f"{options.count} hostile uploads, {len(files)} of them files of test suites, {AT_ONCE} at a time")
    print(f"  statuses  {figures['statuses']} (0: cut or left), slowest {outcome.slowest:.1f} s")
    print(
        f"  memory    {before / 2**20:.0f} MB before, {after / 2**20:.0f} MB after ({cold / 2**20:.0f} MB when started)"
    )
    for line in outcome.worst[:20]:
        print(f"  {line}")
    conclude(bars, figures, options.json)


def settled(target: Target) -> int:
    """Memory once the last requests are gone."""
    time.sleep(14)  # the server hands memory back after ten seconds without requests
    return resident(target.process)


def still_right(target: Target) -> bool:
    """Whether a good slice still gets an answer."""
    outcome = Outcome()
    host, port = target.url.removeprefix("http://").partition("/")[0].split(":")
    asyncio.run(send(host, int(port), Attack("good", as_tiff(slices(1)[0])), "net", outcome))
    return outcome.statuses == Counter({200: 1})


if __name__ == "__main__":
    main()
