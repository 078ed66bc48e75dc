"""Latency and throughput of an exported model over batch sizes, threads, execution providers and precisions."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segkit.errors import ConfigError, FileError
from segkit.inference.session import Model
from segkit.profiling.records import LineFile
from segkit.profiling.report import words
from segkit.profiling.report.tables import Table

PRECISIONS = ("fp32", "fp16", "int8")
PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
}
COLD = ("interpreter", "imports", "load", "first")
LEAST, MOST = 10, 2000  # timed runs of a setting
CALIBRATION = 16  # images at most from which int8 takes its ranges


@dataclass(frozen=True)
class InferenceGrid:
    """What is tried."""

    batches: tuple[int, ...] = (1, 4, 8)
    threads: tuple[int, ...] = (1,)
    providers: tuple[str, ...] = ("cpu",)
    precisions: tuple[str, ...] = ("fp32",)
    seconds: float = 3.0  # of timed runs of a setting
    rounds: int = 3  # processes of a setting; the cold start is the median of theirs

    def __post_init__(self) -> None:
        for key, values, allowed in (
            ("precision", self.precisions, PRECISIONS),
            ("provider", self.providers, tuple(PROVIDERS)),
        ):
            for value in values:
                if value not in allowed:
                    raise ConfigError(key, value, "one or more of " + ", ".join(allowed))
        if min((*self.batches, *self.threads), default=0) < 1:
            raise ConfigError("batch, threads", (self.batches, self.threads), "1 or more")


@dataclass(slots=True)
class InferenceRow:
    """One setting. Times in seconds."""

    precision: str
    provider: str
    threads: int
    batch: int
    reason: str | None = None  # why it could not be measured
    latencies: list[float] = field(default_factory=list)  # of single runs, all rounds together
    cold: dict[str, float] = field(default_factory=dict)  # the parts of a cold start, medians of the rounds
    agreement: float | None = None  # share of pixels whose class is that of fp32 on the CPU
    model_bytes: int = 0

    def percentile(self, q: float) -> float | None:
        """Seconds that q per cent of the runs did not exceed."""
        return float(np.percentile(self.latencies, q)) if self.latencies else None

    @property
    def images_per_s(self) -> float | None:
        """Throughput of runs one after another."""
        return self.batch * len(self.latencies) / sum(self.latencies) if self.latencies else None


def measure_inference(
    model: Path, grid: InferenceGrid, images: NDArray[np.uint8], say: Callable[[str], None]
) -> list[InferenceRow]:
    """Every setting in a process of its own, in rounds of shuffled order.

    Args:
        model: an exported model.
        grid: what is tried.
        images: uint8 [N, H, W, C]; repeated to fill a batch.
        say: called with a line for each process.

    Raises:
        FileError: no model of segkit's.
    """
    Model.load(model, "cpu")  # refuses what is none
    with tempfile.TemporaryDirectory(prefix="segkit-infer-") as name:
        folder = Path(name)
        np.save(folder / "images.npy", images, allow_pickle=False)
        files, rows = {}, []
        for precision in grid.precisions:
            files[precision] = converted(model, precision, folder, images)
        for precision, provider, threads, batch in itertools.product(
            grid.precisions, grid.providers, grid.threads, grid.batches
        ):
            size = files[precision].stat().st_size
            rows.append(InferenceRow(precision, provider, threads, batch, model_bytes=size))
        colds: dict[int, list[dict[str, float]]] = {}
        for number in range(grid.rounds):
            order = list(enumerate(rows))
            random.Random(number).shuffle(order)
            for index, row in order:
                if row.reason is None:
                    say(f"round {number + 1}/{grid.rounds}: {row.precision} {row.provider} batch {row.batch}")
                    _run(row, grid, files[row.precision], folder, colds.setdefault(index, []), index)
        for index, row in enumerate(rows):
            row.cold = {p: float(np.median([cold[p] for cold in colds[index]])) for p in COLD} if colds[index] else {}
        _compare(rows, model, images, folder)
    return rows


def converted(model: Path, precision: str, folder: Path, images: NDArray[np.uint8]) -> Path:
    """The model in another precision; int8 as `segkit export --form int8` makes it, calibrated on `images`.

    Raises:
        FileError: it cannot be converted.
    """
    if precision == "fp32":
        return model
    target = folder / f"{precision}.onnx"
    try:
        if precision == "int8":
            from segkit.export.quantise import quantise_int8

            quantise_int8(model, target, [images[at : at + 1] for at in range(min(len(images), CALIBRATION))])
        else:
            import onnx
            from onnxruntime.transformers.float16 import convert_float_to_float16

            onnx.save(convert_float_to_float16(onnx.load(model), keep_io_types=True), target)
    except Exception as error:  # whatever a converter trips over
        first = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        raise FileError(model, f"cannot be converted to {precision} ({first})", "leave this precision out") from error
    return target


def _run(
    row: InferenceRow, grid: InferenceGrid, file: Path, folder: Path, colds: list[dict[str, float]], index: int
) -> None:
    """One process; its times are added to the row, or the reason why there are none."""
    asked: dict[str, Any] = {
        "model": str(file.resolve()),
        "images": str(folder / "images.npy"),
        "providers": list(dict.fromkeys([PROVIDERS[row.provider], PROVIDERS["cpu"]])),
        "threads": row.threads,
        "batch": row.batch,
        "seconds": grid.seconds / grid.rounds,
        "least": LEAST,
        "most": MOST,
        "mask": str(folder / f"mask-{index}.npy"),
        "spawned": time.time(),
    }
    words_ = [sys.executable, "-m", "segkit.bench.inference_process", json.dumps(asked)]
    done = subprocess.run(words_, capture_output=True, text=True)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        row.reason = said[-1].strip()[:200] if said else f"exit code {done.returncode}"
        return
    told = json.loads(done.stdout.splitlines()[-1])
    row.latencies += told["seconds"]
    colds.append(told["cold"])


def _compare(rows: Sequence[InferenceRow], model: Path, images: NDArray[np.uint8], folder: Path) -> None:
    reference = Model.load(model, "cpu").masks(images)
    for index, row in enumerate(rows):
        path = folder / f"mask-{index}.npy"
        if path.exists():
            mask = np.load(path, allow_pickle=False)
            count = min(len(mask), len(reference))
            row.agreement = float((mask[:count] == reference[:count]).mean())


def write_rows(path: Path, rows: Sequence[InferenceRow]) -> None:
    """JSON Lines with every latency; an older file is replaced."""
    path.unlink(missing_ok=True)
    file = LineFile(path)
    for row in rows:
        file.add(row)
    file.flush()


def table(rows: Sequence[InferenceRow]) -> Table:
    """One row a setting."""
    head = ["precision", "provider", "threads", "batch", "p50", "p95", "p99", "images/s", "cold start", *COLD]
    head += ["same pixels", "file", "failed"]
    body = []
    for row in rows:
        total = sum(row.cold.values()) if row.cold else None
        body.append(
            [
                row.precision,
                row.provider,
                str(row.threads),
                str(row.batch),
                *(words.milliseconds(row.percentile(q)) for q in (50, 95, 99)),
                words.number(row.images_per_s),
                words.duration(total),
                *(words.duration(row.cold.get(part)) for part in COLD),
                words.NONE if row.agreement is None else f"{100 * row.agreement:.3f} %",
                words.number(row.model_bytes / 1e6, "MB"),
                row.reason or "",
            ]
        )
    note = (
        "p50, p95, p99: time of one run of the batch, warm. cold start: interpreter, imports (NumPy, ONNX Runtime), "
        "loading the model, first run. same pixels: share whose class is that of fp32 on the CPU."
    )
    return Table(head, "llrr" + "r" * (len(head) - 5) + "l", body, note).without_empty_columns()


def plain(rows: Sequence[InferenceRow]) -> list[dict[str, Any]]:
    """As JSON values."""
    return [asdict(row) for row in rows]
