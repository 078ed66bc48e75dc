"""Shared by the benchmarks: alternating measurements, medians, and a bootstrap interval of a ratio."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np


def machine() -> str:
    """The processor and its cores, as a heading for figures."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        name = f"{len(lines)} x {lines[0].partition(':')[2].strip()}" if lines else name
    return f"{name}, Python {platform.python_version()}, {platform.system()}"


def alternate(measures: Sequence[Callable[[], float]], rounds: int) -> list[list[float]]:
    """Call each measure once a round, forward and backward in turn, so that a drifting machine touches all alike."""
    results: list[list[float]] = [[] for _ in measures]
    for number in range(rounds):
        pairs = list(zip(measures, results, strict=True))
        for measure, values in pairs if number % 2 == 0 else pairs[::-1]:
            values.append(measure())
    return results


def ratio(first: Sequence[float], second: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """Median of the pairwise ratios first / second, with its 95 % bootstrap interval."""
    ratios = np.asarray(first) / np.asarray(second)
    picks = np.random.default_rng(seed).integers(0, len(ratios), (4000, len(ratios)))
    low, high = np.percentile(np.median(ratios[picks], axis=1), (2.5, 97.5))
    return float(np.median(ratios)), float(low), float(high)


def median(values: Sequence[float]) -> float:
    """The median."""
    return statistics.median(values)
