"""Rows as a sweep writes them, with known truths in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segkit.bench.comparison import Comparison
from segkit.bench.rows import DONE, FAILED, Row
from segkit.bench.study import Study


def row(study: Study, settings: dict[str, Any], repeat: int, rate: float | None, **figures: Any) -> Row:
    cell = study.cell(settings)
    if rate is None:
        return Row(cell.id, repeat, cell.settings, cell.hold, FAILED, reason="out of memory: 80 GiB", started=1.78e9)
    ranks, batch = int(cell.value("gpus")), int(cell.value("batch"))
    step = batch * ranks / rate
    parts = {"compute": 0.7 * step, "optim": 0.1 * step, "starved": 0.2 * step, "copy": 0.0, "sync": 0.0, "host": 0.0}
    base: dict[str, Any] = {
        "device": "cuda",
        "device_name": "GPU",
        "ranks": ranks,
        "images_per_s": rate,
        "images_low": 0.98 * rate,
        "images_high": 1.02 * rate,
        "step_s": step,
        "parts": parts,
        "fill_s": 0.0,
        "train_slices": 1000,
        "parameters": 7_000_000,
        "gflops": 10.0,
        "memory_gpu": 2**30,
        "started": 1.78e9 + repeat,
    }
    return Row(cell.id, repeat, cell.settings, cell.hold, DONE, **{**base, **figures})


def comparison(study: Study, rows: list[Row]) -> Comparison:
    return Comparison(study, rows, Path("study"))
