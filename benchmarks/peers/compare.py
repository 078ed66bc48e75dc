"""segkit beside what a person would use instead: the same slices, net size, batch and threads, in turn.

    python -m benchmarks.peers.environments
    python -m benchmarks.peers.compare load kaggle_3m        CPU time from storage to a batch, an image
    python -m benchmarks.peers.compare augment               CPU time of flips and an affine change, an image
    python -m benchmarks.peers.compare synthetic kaggle_3m   training steps without a data side
    python -m benchmarks.peers.compare train kaggle_3m       training steps from the dataset's files

Every peer is a process that stays warm; each round measures every one, in turn forward and backward. Ratios are medians
over the rounds of what the peer takes over what segkit takes in the same round, with 95 % bootstrap intervals.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.peers.environments import python_of
from benchmarks.peers.process import Job, Peer
from benchmarks.timing import alternate, machine, median, ratio
from segkit.data.layouts import find_cases
from segkit.data.split import Split

SLICES = 512  # about so many are trained on: MONAI holds them in memory as float32


@dataclass(frozen=True)
class Side:
    """One of those compared."""

    name: str
    module: str
    task: str
    environment: str = ""  # of a peer; empty: the one that runs this

    @property
    def python(self) -> Path:
        return python_of(self.environment) if self.environment else Path(sys.executable)


@dataclass(frozen=True)
class Comparison:
    """A question; segkit comes first."""

    sides: tuple[Side, ...]
    figure: str  # "cpu" or "seconds" of a batch
    unit: str
    batches: int  # a measurement
    bars: dict[str, float]  # peer -> how many times segkit's figure its own is to be


SEGKIT, PLAIN = "benchmarks.peers.segkit_loop", "benchmarks.peers.plain"
SMP, MONAI, NNUNET = "benchmarks.peers.smp_lightning", "benchmarks.peers.monai_cache", "benchmarks.peers.nnunet_loader"
COMPARISONS = {
    "load": Comparison(
        (
            Side("segkit, packed", SEGKIT, "load"),
            Side("segkit, files", SEGKIT, "load-files"),
            Side("Pillow in a DataLoader", PLAIN, "load", "plain"),
            Side("MONAI CacheDataset", MONAI, "load", "monai"),
            Side("nnU-Net, blosc2", NNUNET, "load", "nnunet"),
        ),
        "cpu", "ms of CPU time an image", 60, {"Pillow in a DataLoader": 10.0},
    ),
    "augment": Comparison(
        (
            Side("segkit", SEGKIT, "augment"),
            Side("segkit, with elastic and intensity", SEGKIT, "augment-all"),
            Side("MONAI", MONAI, "augment", "monai"),
            Side("batchgeneratorsv2", NNUNET, "augment", "nnunet"),
            Side("PyTorch, whole batches", PLAIN, "augment", "plain"),
            Side("albumentations", SMP, "augment", "smp"),
            Side("OpenCV by hand", "benchmarks.peers.opencv", "augment", "nnunet"),
        ),
        "cpu", "ms of CPU time an image", 4, {"MONAI": 4.0},
    ),
    "synthetic": Comparison(
        (Side("segkit", SEGKIT, "synthetic"), Side("plain PyTorch loop", PLAIN, "synthetic", "plain")),
        "seconds", "images/s", 8, {"plain PyTorch loop": 1.0},
    ),
    "train": Comparison(
        (
            Side("segkit, packed", SEGKIT, "train"),
            Side("segkit, files", SEGKIT, "train-files"),
            Side("plain PyTorch loop", PLAIN, "train", "plain"),
            Side("smp + Lightning", SMP, "train", "smp"),
            Side("MONAI CacheDataset", MONAI, "train", "monai"),
            Side("nnU-Net loader", NNUNET, "train", "nnunet"),
        ),
        "seconds", "images/s", 4, {"smp + Lightning": 1.5},
    ),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", choices=list(COMPARISONS))
    parser.add_argument("dataset", nargs="?", type=Path, default=Path("phantom"))
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--batches", type=int, help="Of a measurement.")
    parser.add_argument("--cpu", action="store_true", help="CPU time in place of time, for a machine that is shared.")
    for name in ("batch", "workers", "threads", "width"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Job, name))
    parser.add_argument("--without", default="", help="Names of sides to leave out, with commas between.")
    parser.add_argument("--output", type=Path, help="Add the result to this JSON file.")
    arguments = parser.parse_args()
    asked = COMPARISONS[arguments.question]
    left_out = arguments.without.split(",")
    asked = replace(
        asked,
        sides=tuple(side for side in asked.sides if side.name not in left_out),
        batches=arguments.batches or asked.batches,
    )
    if arguments.cpu:
        asked = replace(asked, figure="cpu", unit="ms of CPU time an image")
    with tempfile.TemporaryDirectory() as scratch:
        job = a_job(arguments, Path(scratch))
        found = measured(asked, job, arguments.rounds)
    result = {
        "command": "python -m benchmarks.peers.compare " + shlex.join(_said(sys.argv[1:])),
        "machine": machine(),
        "settings": {key: getattr(job, key) for key in ("batch", "workers", "threads", "width", "size")},
        "slices": len(job.images),
        "unit": asked.unit,
        "sides": found,
    }
    show(result, asked)
    if arguments.output:
        known = json.loads(arguments.output.read_text("utf-8")) if arguments.output.exists() else []
        arguments.output.write_text(json.dumps([*known, result], indent=1) + "\n", encoding="utf-8")


def _said(words: list[str]) -> list[str]:
    """The command without the folders of this machine."""
    return [Path(word).name if "/" in word else word for word in words]


def a_job(arguments: argparse.Namespace, scratch: Path) -> Job:
    """The slices of so many patients, as files and as a split for segkit."""
    job = Job("", "", [], [], str(scratch), arguments.batch, arguments.workers, arguments.threads, arguments.width)
    if arguments.question == "augment":
        return job
    cases = find_cases(arguments.dataset).cases
    chosen, refs = [], []
    for case in cases[:-2]:
        if len(refs) < SLICES:
            chosen.append(case.patient)
            refs += case.slices
    split = scratch / "split.json"
    Split(tuple(sorted(chosen)), (cases[-2].patient,), (cases[-1].patient,), 0).save(split)
    files = [str(ref.images[0].resolve()) for ref in refs], [str(ref.mask.resolve()) for ref in refs]
    return replace(job, data=str(arguments.dataset.resolve()), split=str(split), images=files[0], masks=files[1])


def measured(asked: Comparison, job: Job, rounds: int) -> list[dict[str, Any]]:
    """Each side's figures, round by round; the first round warms up and is left out."""
    peers: dict[Side, Peer] = {}
    failed: list[dict[str, Any]] = []
    try:
        for side in asked.sides:
            print(f"starting {side.name}", file=sys.stderr, flush=True)
            try:
                peers[side] = Peer(side.name, side.python, side.module, side.task, job)
            except (RuntimeError, OSError) as error:
                failed.append({**asdict(side), "failed": str(error)})
                print(error, file=sys.stderr)
        measure = [partial(_figure, peer, asked.batches, asked.figure) for peer in peers.values()]
        values = [found[1:] for found in alternate(measure, rounds + 1)]
    finally:
        for peer in peers.values():
            peer.end()
    first = values[0]
    done = [
        {**asdict(side), "batch_seconds": found, "over_segkit": ratio(found, first)}
        for side, found in zip(peers, values, strict=True)
    ]
    return done + failed


def _figure(peer: Peer, batches: int, figure: str) -> float:
    return peer.measure(batches)[figure]


def show(result: dict[str, Any], asked: Comparison) -> None:
    """Print each side's figure, its ratio to segkit's, and the bars."""
    print(result["machine"])
    print(", ".join(f"{key} {value}" for key, value in result["settings"].items()) + f"; {asked.unit}")
    done = [side for side in result["sides"] if "failed" not in side]
    for side in done:
        seconds, batch = median(side["batch_seconds"]), result["settings"]["batch"]
        figure = 1000 * seconds / batch if asked.figure == "cpu" else batch / seconds
        middle, low, high = side["over_segkit"]
        print(f"{side['name']:36} {figure:8.3f}   takes {middle:6.2f}x segkit's [{low:.2f}, {high:.2f}]")
    for side in done:
        bar = asked.bars.get(side["name"])
        if bar is not None:
            met = "met" if side["over_segkit"][0] >= bar else "not met"
            print(f"bar: {side['name']} takes at least {bar:g}x segkit's: {met}")


if __name__ == "__main__":
    main()
