"""Cross-validate the recipes by patient, in pieces that a time limit may cut, and pool what the folds say.

    python -m benchmarks.lgg.cross_validate kaggle_3m runs/lgg --net unet --fold 0 --minutes 9
    python -m benchmarks.lgg.cross_validate kaggle_3m runs/lgg --net unet          # all folds, then the table
    python -m benchmarks.lgg.cross_validate kaggle_3m runs/lgg --net unet --table  # the table alone

Each fold is a `segkit train` with the net's recipe (benchmarks/lgg/<net>.toml) that is resumed until it is done; flags
behind `--` go to it (`-- --width 64 --device cuda`). The exit code is 75 where a piece ended before the training did.
Every patient is tested once, by a net that has not seen it; the table pools the folds that are done and names the
others.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from segkit.data.layouts import find_cases
from segkit.data.split import k_folds
from segkit.metrics import ConfusionTable, summarise

HERE = Path(__file__).parent
FOLDS = 5
UNFINISHED = 75
SHOWN = ("pooled_miou", "pooled_dice", "patient_dice_mean", "patient_dice_median")


def train_fold(data: Path, runs: Path, net: str, fold: int, minutes: float, flags: list[str]) -> bool:
    """Go on with one fold; False where the time was up before the training was."""
    run = runs / f"{net}-fold-{fold}"
    if (run / "evaluation.json").exists():
        return True
    split = runs / f"fold-{fold}.json"
    if not split.exists():
        k_folds(find_cases(data).cases, FOLDS)[fold].save(split)
    words = ["--config", HERE / f"{net}.toml", "--data", data, "--split", split, "--run", run, "--resume", *flags]
    process = subprocess.Popen([sys.executable, "-m", "segkit", "train", *map(str, words)])
    try:
        code = process.wait(minutes * 60 if minutes else None)
    except subprocess.TimeoutExpired:
        process.terminate()  # it saves, and exits with 75
        code = process.wait()
    if code not in (0, UNFINISHED):
        raise SystemExit(code)
    return code == 0


def table(runs: Path, net: str) -> dict[str, Any]:
    """The figures over all patients of the folds that are done, each patient by the net that had not seen it."""
    done = [fold for fold in range(FOLDS) if (runs / f"{net}-fold-{fold}" / "evaluation.json").exists()]
    reports = [json.loads((runs / f"{net}-fold-{fold}" / "evaluation.json").read_text()) for fold in done]
    if not reports:
        return {"net": net, "folds": []}
    pairs = [(row["patient"], np.array(row["confusion"])[None]) for report in reports for row in report["patients"]]
    summary = summarise(ConfusionTable.from_patients(pairs, ("background", "tumor")))
    figures = {figure.key: [figure.value, figure.low, figure.high] for figure in summary.figures if figure.key in SHOWN}
    return {"net": net, "folds": done, "patients": len(pairs), "figures": figures}


def show(found: dict[str, Any]) -> None:
    """Print the table's line, and what is not in it."""
    missing = sorted(set(range(FOLDS)) - set(found["folds"]))
    if found["folds"]:
        cells = [f"{key} {value:.4f} [{low:.4f}, {high:.4f}]" for key, (value, low, high) in found["figures"].items()]
        print(f"{found['net']}: {found['patients']} patients, " + ", ".join(cells))
    if missing:
        print(f"{found['net']}: not measured yet: folds {', '.join(map(str, missing))}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--net", choices=("unet", "fcn", "segnet"), default="unet")
    parser.add_argument("--fold", type=int, choices=range(FOLDS))
    parser.add_argument("--minutes", type=float, default=0.0, help="stop after so long and save; 0: at the end")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("flags", nargs="*", help="for segkit train, behind --")
    options = parser.parse_args()
    options.runs.mkdir(parents=True, exist_ok=True)
    folds = [] if options.table else [options.fold] if options.fold is not None else list(range(FOLDS))
    for fold in folds:
        if not train_fold(options.data, options.runs, options.net, fold, options.minutes, options.flags):
            raise SystemExit(UNFINISHED)
    found = table(options.runs, options.net)
    (options.runs / f"{options.net}-table.json").write_text(json.dumps(found, indent=2) + "\n")
    show(found)


if __name__ == "__main__":
    main()
