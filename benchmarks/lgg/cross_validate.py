"""Cross-validate the recipes by patient, in pieces that a time limit may cut, and pool what the folds say.

    python -m benchmarks.lgg.cross_validate kaggle_3m runs/lgg --net unet --fold 0 --minutes 9
    python -m benchmarks.lgg.cross_validate kaggle_3m runs/lgg --net unet          # all folds, then the table
    python -m benchmarks.lgg.cross_validate kaggle_3m runs/lgg --net unet --table  # the table alone
    python -m benchmarks.lgg.cross_validate kaggle_3m runs/lgg --net unet --all    # the net of all patients

Each fold is a `segkit train` with the net's recipe (benchmarks/lgg/<net>.toml) that is resumed until it is done; flags
behind `--` go to it (`-- --width 64 --device cuda`). The exit code is 75 where a piece ended before the training did.
Then `segkit tune` chooses the rule for volumes of each fold on the test patients of the other folds that are trained
(of a lone fold: on its validation patients), and the fold is evaluated by it. Every patient is tested once, by a net
and a rule that have not seen it; the table pools the folds that are done, by slice and in volumes, and names the
others. The net of all patients keeps a few of them to choose the checkpoint by; its rule is chosen on the test patients
of all folds that are done.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lgg.tables import SHOWN
from segkit.data.layouts import find_cases
from segkit.data.split import Split, k_folds, make_split
from segkit.files import read_json, write_json
from segkit.metrics import ConfusionTable, summarise
from segkit.runs import RunDirectory

HERE = Path(__file__).parent
FOLDS = 5
UNFINISHED = 75
OF_ALL_VAL = 0.05  # of all patients: what the net of all of them keeps to choose its checkpoint by
VOLUMES = "evaluation-volumes.json"


def fold_runs(runs: Path, net: str) -> dict[int, RunDirectory]:
    """The folds of a net that are trained."""
    all_of_them = {fold: RunDirectory(runs / f"{net}-fold-{fold}") for fold in range(FOLDS)}
    return {fold: run for fold, run in all_of_them.items() if run.finished}


def train_fold(data: Path, runs: Path, net: str, fold: int, minutes: float, flags: list[str]) -> bool:
    """Go on with one fold; False where the time was up before the training was."""
    split = runs / f"fold-{fold}.json"
    if not split.exists():
        k_folds(find_cases(data).cases, FOLDS)[fold].save(split)
    return train(data, RunDirectory(runs / f"{net}-fold-{fold}"), split, net, minutes, flags)


def judge(data: Path, runs: Path, net: str) -> None:
    """Choose the rules of the runs that are trained, and evaluate the folds by them, where that is not done yet."""
    folds = list(fold_runs(runs, net).values())
    whole = all_run(runs, net)
    targets = [*folds, whole] if whole.finished else folds
    names = [run.path.name for run in folds]
    chosen_on = [read_json(run.volume_rule)["chosen_on"]["runs"] for run in targets if run.volume_rule.exists()]
    if folds and chosen_on != [names] * len(targets):
        part = "test" if len(folds) > 1 else "val"  # several folds have their test patients for one another
        into = (word for run in targets for word in ("--into", run.path))
        segkit("tune", *(run.path for run in folds), *into, "--data", data, "--split", part)
        for run in folds:
            (run.path / VOLUMES).unlink(missing_ok=True)
    for run in folds:
        if not (run.path / VOLUMES).exists():
            segkit("evaluate", run.onnx, "--data", data, "-o", run.path / VOLUMES)


def all_run(runs: Path, net: str) -> RunDirectory:
    """The run of all patients."""
    return RunDirectory(runs / f"{net}-all")


def train_all(data: Path, runs: Path, net: str, minutes: float, flags: list[str]) -> bool:
    """Go on with the net of all patients; False where the time was up before the training was."""
    split = runs / "all.json"
    if not split.exists():
        made = make_split(find_cases(data).cases, fractions=(0.99 - OF_ALL_VAL, OF_ALL_VAL, 0.01))
        Split(tuple(sorted((*made.train, *made.test))), made.val, (), made.seed).save(split)
    return train(data, all_run(runs, net), split, net, minutes, flags)


def train(data: Path, run: RunDirectory, split: Path, net: str, minutes: float, flags: list[str]) -> bool:
    """Begin a run, resume it, or train it for longer; False where the time was up before it was done."""
    words = ["--config", HERE / f"{net}.toml", "--data", data, "--split", split, "--run", run.path, "--resume", *flags]
    process = subprocess.Popen([sys.executable, "-m", "segkit", "train", *map(str, words)])
    try:
        code = process.wait(minutes * 60 if minutes else None)
    except subprocess.TimeoutExpired:
        process.terminate()  # it saves, and exits with 75
        code = process.wait()
    if code not in (0, UNFINISHED):
        raise SystemExit(code)
    return code == 0


def segkit(*words: object) -> None:
    """Run one verb, to its end."""
    subprocess.run([sys.executable, "-m", "segkit", *map(str, words)], check=True)


def table(runs: Path, net: str) -> dict[str, Any]:
    """The figures over all patients of the folds that are done, each patient by the net that had not seen it."""
    done = {fold: run for fold, run in fold_runs(runs, net).items() if (run.path / VOLUMES).exists()}
    if not done:
        return {"net": net, "folds": []}
    found: dict[str, Any] = {"net": net, "folds": sorted(done)}
    for way, name in (("by slice", "evaluation.json"), ("in volumes", VOLUMES)):
        reports = [read_json(run.path / name) for run in done.values()]
        pairs = [(row["patient"], np.array(row["confusion"])[None]) for report in reports for row in report["patients"]]
        figures = summarise(ConfusionTable.from_patients(pairs, ("background", "tumor"))).figures
        found[way] = {figure.key: [figure.value, figure.low, figure.high] for figure in figures if figure.key in SHOWN}
        found["patients"] = len(pairs)
    return found


def show(found: dict[str, Any]) -> None:
    """Print the table's lines, and what is not in it."""
    missing = sorted(set(range(FOLDS)) - set(found["folds"]))
    for way in ("by slice", "in volumes") if found["folds"] else ():
        cells = [f"{key} {value:.4f} [{low:.4f}, {high:.4f}]" for key, (value, low, high) in found[way].items()]
        print(f"{found['net']}, {way}: {found['patients']} patients, " + ", ".join(cells))
    if missing:
        print(f"{found['net']}: not measured yet: folds {', '.join(map(str, missing))}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--net", choices=("unet", "fcn", "segnet"), default="unet")
    parser.add_argument("--fold", type=int, choices=range(FOLDS))
    parser.add_argument("--minutes", type=float, default=0.0, help="stop after so long and save; 0: at the end")
    parser.add_argument("--all", action="store_true", help="the net of all patients, in place of folds")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("flags", nargs="*", help="for segkit train, behind --")
    options = parser.parse_args()
    options.runs.mkdir(parents=True, exist_ok=True)
    if options.all and not train_all(options.data, options.runs, options.net, options.minutes, options.flags):
        raise SystemExit(UNFINISHED)
    folds = range(FOLDS) if options.fold is None else [options.fold]
    for fold in folds if not (options.table or options.all) else ():
        if not train_fold(options.data, options.runs, options.net, fold, options.minutes, options.flags):
            raise SystemExit(UNFINISHED)
    if not options.table:
        judge(options.data, options.runs, options.net)
    found = table(options.runs, options.net)
    write_json(options.runs / f"{options.net}-table.json", found)
    show(found)


if __name__ == "__main__":
    main()
