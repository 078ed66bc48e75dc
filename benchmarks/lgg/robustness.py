"""What a model loses where a scan is not as its training slices were.

    python -m benchmarks.lgg.robustness runs/lgg/unet-fold-*

Mean volume Dice over the test patients as they are, segmented as `segkit segment` does, and after each change to their
slices: a missing sequence (the channel becomes FLAIR, as in the dataset), gamma, rotation, half the resolution, noise.
Each run's model is judged on the test patients of its own split, and what it gave is kept in the run
(`robustness.json`), so that it is not measured again. The bar is 5 points of Dice for each.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segkit.data.cases import CaseSet
from segkit.data.layouts import find_cases
from segkit.data.split import Split
from segkit.files import read_json, write_json
from segkit.inference.segmenter import Segmenter
from segkit.inference.session import Model
from segkit.inference.volume_rule import VolumeRule
from segkit.metrics import confusion
from segkit.metrics.bootstrap import mean_interval
from segkit.runs import RunDirectory, open_run
from segkit.training.config import TrainConfig
from segkit.training.evaluate import scan_of

KEPT = "robustness.json"

Pixels = NDArray[np.uint8]
Change = Callable[[Pixels, Pixels], tuple[Pixels, Pixels]]  # images [S, H, W, C] and masks [S, H, W], both ways


def _as_is(images: Pixels, masks: Pixels) -> tuple[Pixels, Pixels]:
    return images, masks


def _without(channels: tuple[int, ...]) -> Change:
    def change(images: Pixels, masks: Pixels) -> tuple[Pixels, Pixels]:
        changed = images.copy()
        for channel in channels:
            changed[..., channel] = images[..., 1]
        return changed, masks

    return change


def _gamma(power: float) -> Change:
    curve = np.round(255 * (np.arange(256) / 255) ** power).astype(np.uint8)
    return lambda images, masks: (curve[images], masks)


def _noise(sigma: float) -> Change:
    def change(images: Pixels, masks: Pixels) -> tuple[Pixels, Pixels]:
        added = np.random.default_rng(0).normal(0, sigma, images.shape)
        return np.clip(np.round(images + added), 0, 255).astype(np.uint8), masks

    return change


def _rotated(degrees: float) -> Change:
    def change(images: Pixels, masks: Pixels) -> tuple[Pixels, Pixels]:
        turned = [Image.fromarray(image).rotate(degrees, Image.Resampling.BILINEAR) for image in images]
        turned_masks = [Image.fromarray(mask).rotate(degrees, Image.Resampling.NEAREST) for mask in masks]
        return np.stack([np.asarray(one) for one in turned]), np.stack([np.asarray(one) for one in turned_masks])

    return change


def _coarser(images: Pixels, masks: Pixels) -> tuple[Pixels, Pixels]:
    height, width = masks.shape[1:]
    small = [Image.fromarray(image).resize((width // 2, height // 2), Image.Resampling.BOX) for image in images]
    return np.stack([np.asarray(one.resize((width, height), Image.Resampling.BILINEAR)) for one in small]), masks


CHANGES: dict[str, Change] = {
    "as it is": _as_is,
    "no post-contrast": _without((2,)),
    "no pre-contrast": _without((0,)),
    "FLAIR alone": _without((0, 2)),
    "gamma 0.7": _gamma(0.7),
    "gamma 1.4": _gamma(1.4),
    "rotated by 15 degrees": _rotated(15),
    "half the resolution": _coarser,
    "noise (sigma 8 of 255)": _noise(8),
}


def of_run(run: RunDirectory) -> dict[str, list[float]]:
    """Volume Dice of each test patient of a run after each change: as kept in the run, or measured and kept there."""
    kept = run.path / KEPT
    model = Model.load(run.onnx, "cpu")
    rule = str(VolumeRule.of(model.metadata))
    found = read_json(kept) if kept.exists() else {}
    if found.get("volumes") != rule:
        case_set = find_cases(Path(TrainConfig.load(run.config).data.data))
        patients = Split.load(run.split).test
        found = {"volumes": rule, "patients": patients, "dice": measure(model, case_set, patients)}
        write_json(kept, found)
    dice: dict[str, list[float]] = found["dice"]
    return dice


def of_runs(runs: Sequence[RunDirectory]) -> dict[str, list[float]]:
    """The patients of several runs together."""
    found = [of_run(run) for run in runs]
    return {change: [dice for one in found for dice in one[change]] for change in CHANGES}


def measure(model: Model, case_set: CaseSet, patients: tuple[str, ...]) -> dict[str, list[float]]:
    """Volume Dice of each patient after each change."""
    segmenter = Segmenter(model)
    dice: dict[str, list[float]] = {name: [] for name in CHANGES}
    for case in case_set.cases:
        if case.patient not in patients:
            continue
        scan, masks = scan_of(case_set, case)
        for name, change in CHANGES.items():
            seen, reference = change(scan.pixels, masks)
            found = segmenter.segment(replace(scan, pixels=seen)).mask
            dice[name].append(volume_dice(found, reference))
    return dice


def volume_dice(found: Pixels, reference: Pixels) -> float:
    """Dice of the tumour in two masks of a volume; 0 where neither has any."""
    counts = confusion(found, reference, 2)
    return float(2 * counts[1, 1] / max(1, counts[1].sum() + counts[:, 1].sum()))


def lost(dice: dict[str, list[float]]) -> dict[str, dict[str, Any]]:
    """Mean Dice and what is lost against the unchanged slices, with a 95 % interval over patients (paired)."""
    plain = np.array(dice["as it is"])
    result = {}
    for name, values in dice.items():
        drop = plain - np.array(values)
        result[name] = {"dice": float(np.mean(values)), "lost": float(drop.mean()), "interval": mean_interval(drop)}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    options = parser.parse_args()
    dice = of_runs([open_run(path) for path in options.runs])
    print(f"{len(dice['as it is'])} patients")
    for name, row in lost(dice).items():
        low, high = row["interval"]
        print(f"{name:24} Dice {row['dice']:.4f}   lost {row['lost']:+.4f} [{low:+.4f}, {high:+.4f}]")


if __name__ == "__main__":
    main()
