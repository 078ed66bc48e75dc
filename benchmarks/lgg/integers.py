"""What 8-bit integers cost in decisions and give in speed: every patient by the net that has not seen it, both ways.

    python -m benchmarks.lgg.integers runs/lgg/unet-fold-*

Each run's model and its int8 form segment the run's test patients, as `segkit segment` does. A form that the gate of
`segkit export --form int8` has refused (it looks at few patients) is made and judged here all the same. Then both run
the same slices by turns, with one thread. The bars: a patient's Dice moves by 0.002 on average, 2.2 times the speed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime

from benchmarks.lgg.robustness import volume_dice
from segkit.data.cases import CaseSet
from segkit.data.layouts import find_cases
from segkit.data.split import Split
from segkit.inference.segmenter import Segmenter
from segkit.inference.session import Model
from segkit.metrics.bootstrap import mean_interval
from segkit.model_metadata import INPUT, MASK
from segkit.runs import RunDirectory, open_run
from segkit.training.config import TrainConfig
from segkit.training.evaluate import scan_of
from segkit.workflow.export_run import write_form

ROUNDS = 12
BATCH = 4


def form_of(run: RunDirectory, form: str, folder: Path) -> Path:
    """A smaller form of the run's model: the one in the run, or one that is made in a folder, gate or no gate."""
    kept = run.form(form)
    if kept.exists():
        return kept
    made = folder / f"{run.path.name}.onnx"
    write_form(run, form, TrainConfig.load(run.config).data.data, made)
    print(f"{run.path.name}: no {kept.name}; made anew")
    return made


def judged(run: RunDirectory, form: Path, case_set: CaseSet) -> list[tuple[str, float, float]]:
    """Test patients with the volume Dice of the model and of its form."""
    segmenters = [Segmenter(Model.load(path, "cpu")) for path in (run.onnx, form)]
    patients = Split.load(run.split).test
    found = []
    for case in case_set.cases:
        if case.patient in patients:
            scan, reference = scan_of(case_set, case)
            plain, rounded = (volume_dice(segmenter.segment(scan).mask, reference) for segmenter in segmenters)
            found.append((case.patient, plain, rounded))
    return found


def speed(run: RunDirectory, form: Path, case_set: CaseSet) -> np.ndarray:
    """How many times as fast the form is, in each round: both on the same slices with one thread."""
    scan, _ = scan_of(case_set, case_set.cases[0])
    images = np.ascontiguousarray(scan.pixels[len(scan.pixels) // 2 :][:BATCH])
    models = [_alone(path) for path in (run.onnx, form)]
    seconds = np.zeros((ROUNDS + 1, 2))
    for row in seconds:
        for at, model in enumerate(models):
            start = time.perf_counter()
            model.run([MASK], {INPUT: images})
            row[at] = time.perf_counter() - start
    ratios: np.ndarray = seconds[1:, 0] / seconds[1:, 1]
    return ratios


def _alone(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    runs = [open_run(path) for path in parser.parse_args().runs]
    with tempfile.TemporaryDirectory() as folder:
        forms = [form_of(run, "int8", Path(folder)) for run in runs]
        case_set = find_cases(Path(TrainConfig.load(runs[0].config).data.data))
        rows = [row for run, form in zip(runs, forms, strict=True) for row in judged(run, form, case_set)]
        ratios = speed(runs[0], forms[0], case_set)
    plain, rounded = np.array([row[1:] for row in rows]).T
    for name, values in (
        ("Dice, float32", plain),
        ("Dice, int8", rounded),
        ("difference", rounded - plain),
        ("moves by", np.abs(rounded - plain)),
    ):
        low, high = mean_interval(values)
        print(f"{name:14} mean {values.mean():+.5f} [{low:+.5f}, {high:+.5f}]   median {np.median(values):+.5f}")
    for patient, before, after in sorted(rows, key=lambda row: -abs(row[2] - row[1]))[:5]:
        print(f"  moves most: {patient} {before:.4f} to {after:.4f}")
    low, middle, high = np.quantile(ratios, (0.05, 0.5, 0.95))
    print(f"int8 / float32, one thread, batch {BATCH}: {middle:.2f}x [{low:.2f}, {high:.2f}]")


if __name__ == "__main__":
    main()
