"""Write down what each packaged model says of one slice of a phantom, for the tests to compare with.

    python -m benchmarks.lgg.case tests/inference/pretrained_case

After publishing a model: the slice and its reference stay, the masks are made anew.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from segkit.data.layouts import find_cases
from segkit.data.phantom import write_phantom
from segkit.data.read import read_case
from segkit.inference.catalogue import installed
from segkit.inference.session import Model


def main() -> None:
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    if not (target / "scan.png").exists():
        with tempfile.TemporaryDirectory() as folder:
            write_phantom(Path(folder) / "phantom", patients=3, slices=8, size=256)
            case_set = find_cases(Path(folder) / "phantom")
            images, masks = read_case(case_set, case_set.cases[0])
        at = int(masks.reshape(len(masks), -1).sum(axis=1).argmax())
        Image.fromarray(images[at]).save(target / "scan.png", optimize=True)
        Image.fromarray(masks[at] * np.uint8(255)).save(target / "reference.png", optimize=True)
    image, reference = (np.asarray(Image.open(target / name)) for name in ("scan.png", "reference.png"))
    for model in installed():
        if model.packaged:
            mask = Model.load(model.path, "cpu").masks(image[None])[0] > 0
            dice = 2 * np.count_nonzero(mask & (reference > 0)) / (np.count_nonzero(mask) + np.count_nonzero(reference))
            Image.fromarray(mask * np.uint8(255)).save(target / f"{model.name}_mask.png", optimize=True)
            print(f"{model.name}: Dice {dice:.3f} on a phantom, which it has never seen")


if __name__ == "__main__":
    main()
