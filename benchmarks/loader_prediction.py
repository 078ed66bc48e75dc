"""What `segkit profile` predicts for loaders and worker counts, against real trainings with each of them.

    python -m benchmarks.loader_prediction DATASET [--settings "--width 4 --crop 64"] [--counts 0,1,2] [--output FILE]

One `segkit profile` measures the parts; then `segkit train` runs with each setting, in turns, and its own records give
the rate. Prints predicted and measured images/s. Bar: within 10 %.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.timing import machine
from segkit.profiling.analysis import read_ranks, steady_rate, summarise
from segkit.profiling.summary import RunSummary


@dataclass
class Row:
    """One setting."""

    loader: str
    workers: int
    predicted_from_parts: float | None  # by the model, from what net and loader cost alone
    short_runs: float | None  # measured by `segkit profile`
    trained: list[float]  # by `segkit train`, one a round

    def text(self) -> str:
        """A line of the table."""
        mean = float(np.mean(self.trained))
        said = self.short_runs if self.short_runs is not None else self.predicted_from_parts or 0.0
        shown = [f"{v:9.1f}" if v is not None else "        -" for v in (self.predicted_from_parts, self.short_runs)]
        spread = f"[{min(self.trained):.1f}, {max(self.trained):.1f}]"
        return f"{self.loader:9} {self.workers:7} {shown[0]} {shown[1]} {mean:9.1f} {spread:18} {said / mean - 1:+7.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--settings", default="--width 4 --crop 64 --batch 16")
    parser.add_argument("--counts", default="0,1,2")
    parser.add_argument("--seconds", type=float, default=20.0, help="Longest time that a setting is measured.")
    parser.add_argument("--rounds", type=int, default=3, help="Trainings with each setting.")
    parser.add_argument("--output", type=Path, help="JSON file; the report's page goes beside it.")
    arguments = parser.parse_args()
    words = ["--data", str(arguments.dataset.resolve()), "--model", "unet", *shlex.split(arguments.settings)]
    counts = [int(count) for count in arguments.counts.split(",")]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        limit = ["--seconds", str(arguments.seconds)]
        segkit(
            "profile",
            *words,
            "--loader",
            "files",
            "--workers",
            "0",
            "--counts",
            arguments.counts,
            *limit,
            "-o",
            folder / "p",
        )
        summary = summarise(folder / "p")
        rows = [row_of(summary, "files", count) for count in counts]
        rows += [row_of(summary, loader, 0) for loader in ("packed", "resident")]
        for turn in range(arguments.rounds):
            for row in rows if turn % 2 == 0 else rows[::-1]:
                row.trained.append(train(words, row, folder / f"t{turn}-{row.loader}-{row.workers}", arguments.seconds))
        if arguments.output:
            plain = {"machine": machine(), "settings": arguments.settings, "rows": [asdict(row) for row in rows]}
            arguments.output.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
            arguments.output.with_suffix(".html").write_bytes((folder / "p" / "report.html").read_bytes())
    print(machine())
    if summary.verdict is not None:
        print(summary.verdict.title + ".", summary.verdict.sentence)
        print(summary.verdict.sure)
    print("loader    workers   predicted  measured   trained                    off")
    print("                   from parts  in short")
    for row in rows:
        print(row.text())


def segkit(*words: object) -> None:
    """Run the command line."""
    done = subprocess.run(
        [sys.executable, "-m", "segkit", *map(str, words)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)


def row_of(summary: RunSummary, loader: str, workers: int) -> Row:
    """What the analysis says of a setting."""
    curve = summary.differential.curve if summary.differential else []
    point = next(p for p in curve if (p.loader, p.workers) == (loader, workers))
    short = point.images_per_s.value if point.images_per_s is not None else None
    return Row(loader, workers, point.predicted, short, [])


def train(words: list[str], row: Row, run: Path, seconds: float) -> float:
    """Images/s of a real training that lasts about as long as a measurement."""
    batch = int(words[words.index("--batch") + 1])
    rate = row.short_runs or row.predicted_from_parts or 100.0
    steps = max(30, round(seconds * rate / batch))
    setting = ["--loader", row.loader, "--workers", row.workers, "--steps", steps, "--epochs", 10000]
    segkit("train", *words, *setting, "--no-export", "--run", run)
    measured = steady_rate(read_ranks(run / "profile"))
    return measured.value if measured is not None else 0.0


if __name__ == "__main__":
    main()
