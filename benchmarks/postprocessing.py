"""What each step after the net does to Dice: mirrored slices, smoothing, threshold, least lesion, largest component.

    python -m benchmarks.postprocessing --run runs/lgg/unet --data kaggle_3m

Every patient that the net was not trained on (val and test of the run's split) goes through the net once; each way is
applied to what it said. Figures: Dice of the foreground pooled over all voxels, its mean over patients, and the mean
change per patient against no step, with a 95 % bootstrap interval over patients.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.timing import machine
from segkit.data.layouts import find_cases
from segkit.data.split import Split
from segkit.inference.postprocess import LesionSize, largest_component
from segkit.inference.segmenter import Segmenter, Slicing
from segkit.inference.session import Model
from segkit.metrics.bootstrap import mean_interval
from segkit.training.evaluate import scan_of

SIGMAS = (0.5, 0.7, 1.0, 1.5)
THRESHOLDS = (0.2, 0.3, 0.4)
LEAST = ("100", "1000", "5%", "10%", "20%")

LARGEST = "--largest-component"

Mask = NDArray[np.uint8]
Counts = tuple[int, int, int]  # voxels in both, in the mask, in the reference


class Remembered:
    """A model that answers a slice it has seen from memory, as each way of smoothing asks for the same ones."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._known: dict[bytes, NDArray[np.float32]] = {}
        self.metadata, self.path, self.device = model.metadata, model.path, model.device

    def probabilities(self, images: Mask) -> NDArray[np.float32]:
        """Probabilities `[N, K, H, W]` of images `[N, H, W, C]`."""
        key = images.tobytes()
        if key not in self._known:
            self._known[key] = self._model.probabilities(images)
        return self._known[key]

    def masks(self, images: Mask) -> Mask:
        """Class indices `[N, H, W]` of images `[N, H, W, C]`."""
        return self.probabilities(images).argmax(axis=1).astype(np.uint8)

    def forget(self) -> None:
        """Before the next patient."""
        self._known.clear()


def steps() -> dict[str, Slicing]:
    """For each way what is set; what the model brings along is left out."""
    alone = partial(Slicing, by_slice=True)
    ways = {"none": alone(), "--flip": alone(flip=True)}
    ways |= {f"--smooth {sigma:g}": alone(smooth=sigma) for sigma in SIGMAS}
    ways |= {f"--threshold {value:g}": alone(threshold=value) for value in THRESHOLDS}
    ways |= {f"--min-lesion {text}": alone(min_lesion=LesionSize.parse(text)) for text in LEAST}
    return ways


def counts(mask: Mask, reference: Mask) -> Counts:
    """What Dice is made of, background against the rest."""
    one, other = mask > 0, reference > 0
    return int((one & other).sum()), int(one.sum()), int(other.sum())


def dice(both: float, mask: float, reference: float) -> float:
    """1 where both are empty."""
    return 2 * both / (mask + reference) if mask + reference else 1.0


def main() -> None:
    """Parse, segment, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="a run directory with model.onnx and split.json")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, help="without it, the run's model.onnx")
    options = parser.parse_args()
    case_set = find_cases(options.data)
    split = Split.load(options.run / "split.json")
    cases = [case for case in case_set.cases if case.patient in {*split.val, *split.test}]
    model = Remembered(Model.load(options.model or options.run / "model.onnx", slices_hint=100))
    segmenter = Segmenter(model)
    found: dict[str, list[Counts]] = {name: [] for name in (*steps(), LARGEST)}
    for case in cases:
        scan, reference = scan_of(case_set, case)
        masks = {name: segmenter.segment(scan, slicing).mask for name, slicing in steps().items()}
        masks[LARGEST] = largest_component(masks["none"])
        model.forget()
        for name, mask in masks.items():
            found[name].append(counts(mask, reference))
    print(f"{machine()}; {options.run}, {len(cases)} patients that it was not trained on")
    plain = np.array([dice(*one) for one in found["none"]])
    print(f"{'step':32}  pooled Dice  patient Dice  change per patient [95 % interval]")
    for name, rows in found.items():
        each = np.array([dice(*one) for one in rows])
        pooled = dice(*np.sum(rows, axis=0))
        low, high = mean_interval(each - plain)
        print(f"{name:32}  {pooled:11.4f}  {each.mean():12.4f}  {(each - plain).mean():+.4f} [{low:+.4f}, {high:+.4f}]")


if __name__ == "__main__":
    main()
