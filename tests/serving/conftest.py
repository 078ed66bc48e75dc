"""Real server processes, and scans whose masks are known."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.conftest import clean_environment
from tests.threshold_model import expected_classes, threshold_metadata, write_threshold_model

# What the serving tests need beyond the extra "serve".
pytest.importorskip("starlette")


@dataclass
class Server:
    """A running `segkit serve`."""

    url: str
    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def host(self) -> str:
        return self.url.removeprefix("http://").rstrip("/")

    @property
    def address(self) -> tuple[str, int]:
        name, port = self.host.rsplit(":", 1)
        return name, int(port)

    def post(self, body: bytes, **options: Any) -> httpx.Response:
        query = {key: value for key, value in options.items() if key != "accept"}
        headers = {"Accept": options.get("accept", "*/*")}
        return httpx.post(f"{self.url}segment", content=body, params=query, headers=headers, timeout=180)

    def log(self) -> list[dict[str, Any]]:
        """The access log so far."""
        return [json.loads(line) for line in (self.folder / "out").read_text().splitlines()]

    def errors(self) -> str:
        return (self.folder / "err").read_text()

    def metric(self, line: str) -> float:
        """The value of one line of /metrics, 0 where it is not there."""
        text = httpx.get(f"{self.url}metrics").text
        found = re.search(rf"^{re.escape(line)} (\S+)$", text, re.M)
        return float(found[1]) if found else 0.0

    def stop(self) -> int:
        """Ask it to end, and wait for that; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@contextlib.contextmanager
def serving(folder: Path, *flags: object) -> Iterator[Server]:
    """Run `segkit serve` on a free port until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, "-m", "segkit", "serve", "--port", "0", *map(str, flags)]
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        process = subprocess.Popen(words, cwd=folder, env=clean_environment(), stdout=out, stderr=err)
    try:
        yield Server(_address(process, folder / "err"), process, folder)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    for _ in range(600):
        found = re.search(r"at (http://\S+)", log.read_text())
        if found:
            with contextlib.suppress(httpx.TransportError):
                httpx.get(f"{found[1]}v2/health/ready")
                return found[1]
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise AssertionError(f"the server did not start: {log.read_text()}")


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `three.onnx` (3 channels, 2 classes) and `four.onnx` (1 channel, 4 classes), both 64 x 64."""
    folder = tmp_path_factory.mktemp("models")
    write_threshold_model(folder / "three.onnx")
    write_threshold_model(folder / "four.onnx", threshold_metadata(channels=1, classes=4, fit="pad"))
    return folder


@pytest.fixture(scope="session")
def server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of both models, with small limits; shared by all tests that leave it as it was."""
    limits = ("--max-body-mb", 8, "--max-megavoxels", 4, "--max-slices", 64, "--grace-s", 2)
    with serving(
        tmp_path_factory.mktemp("server"), "--model", models / "three.onnx", "--model", models / "four.onnx", *limits
    ) as running:
        yield running


def picture(seed: int = 0, size: tuple[int, int] = (64, 64), channels: int = 3) -> NDArray[np.uint8]:
    """Random pixels `[height, width, channels]`, in blocks so that a mask has parts."""
    random = np.random.default_rng(seed)
    blocks = random.integers(0, 256, (size[0] // 8, size[1] // 8, channels), np.uint8)
    return blocks.repeat(8, axis=0).repeat(8, axis=1)


def encoded(pixels: NDArray[np.uint8], kind: str = "TIFF") -> bytes:
    """Pixels `[height, width, channels]` as a file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, kind)
    return buffer.getvalue()


def decoded(content: bytes) -> NDArray[np.uint8]:
    """The pixels of an image file."""
    return np.asarray(Image.open(io.BytesIO(content)))


def truth(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The mask, as values of a file, of the model with two classes."""
    return expected_classes(pixels[..., 0]) * np.uint8(255)


def memory_of(process: int) -> int:
    """Resident bytes of a process."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
