"""How far the intensity of tumour and of tissue on FLAIR differs between slices, as stored and in tissue levels.

    python -m benchmarks.lgg.levels kaggle_3m

Why the recipes normalise by slice: what the net has to recognise should not depend on the scanner's gain.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from segkit.data.layouts import find_cases
from segkit.data.read import read_case
from segkit.models.normalise import tissue_level

FLAIR = 1
LEAST = 300  # pixels of tumour: smaller ones have no level worth comparing


def main() -> None:
    tumour, tissue, levels = [], [], []
    case_set = find_cases(Path(sys.argv[1]))
    for case in case_set.cases:
        images, masks = read_case(case_set, case)
        for image, mask in zip(images[..., FLAIR], masks, strict=True):
            if mask.sum() >= LEAST:
                level = float(tissue_level(torch.from_numpy(image.astype(np.float32))[None, None]))
                tumour.append(image[mask > 0].mean())
                tissue.append(np.median(image[(mask == 0) & (image > 0.3 * level)]))
                levels.append(level)
    print(f"{len(levels)} slices with {LEAST} or more pixels of tumour; standard deviation of the logarithm")
    for name, values in (("tumour", tumour), ("other tissue", tissue)):
        stored = np.std(np.log(np.array(values)))
        relative = np.std(np.log(np.array(values) / np.array(levels)))
        print(f"{name:13} as stored {stored:.3f}   in tissue levels {relative:.3f}")


if __name__ == "__main__":
    main()
