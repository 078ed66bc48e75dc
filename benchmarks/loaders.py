"""Slices a second of the three loaders: one process, batch 8, the same order. Bar: packed at least 10x files.

    python -m benchmarks.loaders [DATASET] [--rounds 7]

Without a dataset a phantom of LGG's slice size (256 x 256) is written to a temporary folder.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.timing import alternate, machine, median, ratio
from segkit.data.layouts import find_cases
from segkit.data.phantom import write_phantom
from segkit.data.stores import Store, open_store
from segkit.data.survey import choose_frame

BATCH = 8


def slices_per_second(store: Store, batches: list[np.ndarray]) -> float:
    started = time.perf_counter()
    for rows in batches:
        store.gather(rows)
    return sum(map(len, batches)) / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", nargs="?", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        dataset = arguments.dataset or Path(folder) / "phantom"
        if arguments.dataset is None:
            write_phantom(dataset, patients=16, slices=20, size=256)
        case_set = find_cases(dataset)
        frame, device = choose_frame(case_set), torch.device("cpu")
        names = ("files", "packed", "resident")
        stores = [open_store(name, case_set, frame, Path(folder), device)[0] for name in names]
        count = sum(len(case.slices) for case in case_set.cases)
        order = np.random.default_rng(0).permutation(count)
        batches = [order[i : i + BATCH] for i in range(0, count - BATCH + 1, BATCH)]
        rates = alternate([lambda s=store: slices_per_second(s, batches) for store in stores], arguments.rounds + 1)
    print(machine())
    name = dataset if arguments.dataset else "phantom"
    print(f"{name}: {count} slices of {frame.size[0]} x {frame.size[1]}, batch {BATCH}")
    files = rates[0][1:]
    for name, values in zip(names, rates, strict=True):
        middle, low, high = ratio(values[1:], files)  # the first round warms the page cache
        print(f"{name:9} {median(values[1:]):9.0f} slices/s   {middle:6.1f}x files [{low:.1f}, {high:.1f}]")


if __name__ == "__main__":
    main()
