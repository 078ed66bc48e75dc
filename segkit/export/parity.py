"""The gate of every export: the file must decide as the trained net does, measured on real slices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from segkit.errors import ParityError
from segkit.export.onnx_model import export_onnx, set_metadata
from segkit.files import atomic_path
from segkit.inference.session import Model
from segkit.metrics.confusion import Counts, confusion
from segkit.model_metadata import ModelMetadata
from segkit.models.deployed import DeployedNet

MIN_AGREEMENT = 0.9999  # share of all pixels that must get the same class
MAX_DICE_DELTA = 0.001  # that no patient's Dice may move by more than
MAX_MEAN_DICE_DELTA = 0.002  # of a smaller form, which rounds: over patients on average

Images = NDArray[np.uint8]
Batch = tuple[str, Images, Images]  # patient, images [N, H, W, C], reference masks [N, H, W] of class indices


@dataclass(frozen=True)
class Parity:
    """How far an ONNX file decides like the net that it was exported from."""

    pixels: int
    agreeing: int  # of them
    worst_patient: str  # "" where no patient's Dice moved
    worst_dice_delta: float  # largest absolute change of a patient's volume Dice in any class
    patients: int
    mean_dice_delta: float = 0.0  # of the absolute changes, over patients

    @property
    def agreement(self) -> float:
        """Share of pixels with the same class, 0 to 1."""
        return self.agreeing / self.pixels

    def require(self) -> None:
        """Raise ParityError unless the file decides like the net."""
        if self.agreement < MIN_AGREEMENT:
            raise ParityError(
                f"the exported model does not decide like the net: {self}; {MIN_AGREEMENT:.2%} must agree"
            )
        if self.worst_dice_delta > MAX_DICE_DELTA:
            raise ParityError(f"the exported model does not decide like the net: {self}; {MAX_DICE_DELTA} is allowed")

    @property
    def suits_form(self) -> bool:
        """Whether a smaller form is close enough to the exported model."""
        return self.mean_dice_delta <= MAX_MEAN_DICE_DELTA

    def require_form(self) -> None:
        """Raise ParityError unless a smaller form is close enough to the exported model."""
        if not self.suits_form:
            raise ParityError(
                f"the smaller form does not decide like the exported model: a patient's Dice moves by "
                f"{self.mean_dice_delta:.5f} on average (by {self.worst_dice_delta:.5f} for {self.worst_patient}), "
                f"{MAX_MEAN_DICE_DELTA} is allowed; export another form"
            )

    def as_json(self) -> dict[str, Any]:
        """Plain values, for the model's metadata."""
        return {**vars(self), "agreement": self.agreement}

    def __str__(self) -> str:
        # Floored: 100 % is said only where it is so.
        percent = np.floor(self.agreement * 1e6) / 1e4
        worst = f" ({self.worst_patient})" if self.worst_patient else ""
        moved = f"a patient's Dice moves by at most {self.worst_dice_delta:.5f}{worst}"
        return f"{percent:.4f} % of {self.pixels:,} pixels agree, {moved}, {self.patients} patients"


def check_parity(deployed: DeployedNet, onnx_path: Path, batches: Iterable[Batch]) -> Parity:
    """Compare torch in float32 with ONNX Runtime on the CPU, mask by mask.

    A patient's batches need not follow each other. A class that a patient's reference lacks does not count
    towards the Dice (one stray pixel would move it by 1), only towards the agreement.

    Raises:
        ParityError: there is not one slice.
    """
    return _compare(lambda images: _torch_masks(deployed, images), Model.load(onnx_path, "cpu"), batches)


def check_form(exported: Path, form: Path, batches: Iterable[Batch]) -> Parity:
    """Compare a smaller form with the exported model that it was made of; otherwise as `check_parity`."""
    return _compare(Model.load(exported, "cpu").masks, Model.load(form, "cpu"), batches)


def _compare(decide: Callable[[Images], Images], model: Model, batches: Iterable[Batch]) -> Parity:
    classes = len(model.metadata.classes)
    tables: defaultdict[str, list[Counts]] = defaultdict(lambda: [np.zeros((classes, classes), np.int64)] * 2)
    pixels = agreeing = 0
    for patient, images, reference in batches:
        masks = (decide(images), model.masks(images))
        pixels += reference.size
        agreeing += int(np.count_nonzero(masks[0] == masks[1]))
        counts = [confusion(mask, reference, classes) for mask in masks]
        tables[patient] = [old + new for old, new in zip(tables[patient], counts, strict=True)]
    if not pixels:
        raise ParityError("an export is checked on real slices, and there is none")
    deltas = {patient: dice_delta(*pair) for patient, pair in tables.items()}
    worst = max(deltas, key=lambda patient: deltas[patient])
    mean = sum(deltas.values()) / len(deltas)
    return Parity(pixels, agreeing, worst if deltas[worst] else "", deltas[worst], len(deltas), mean)


def export_checked(deployed: DeployedNet, metadata: ModelMetadata, path: Path, batches: Iterable[Batch]) -> Parity:
    """Export to `path`, which takes its name only when the parity is good; the figures are in the metadata.

    Raises:
        ParityError: the file decides otherwise than the net, or there is no slice; `path` is as it was.
        ConfigError, FileError: as `export_onnx` does.
    """
    with atomic_path(path) as temporary:
        export_onnx(deployed, metadata, temporary)
        parity = check_parity(deployed, temporary, batches)
        parity.require()
        set_metadata(temporary, replace(metadata, metrics={**metadata.metrics, "parity": parity.as_json()}))
    return parity


def dice_delta(before: Counts, after: Counts) -> float:
    """Largest change of a foreground class's Dice from one table [K, K] to another of the same reference."""
    return float(np.abs(_dice(before) - _dice(after))[1:].max())


def _dice(counts: Counts) -> NDArray[np.float64]:
    """2 TP / (reference + predicted) of each class (Dice 1945); 0 for a class that the reference lacks."""
    total = counts.sum(axis=0) + counts.sum(axis=1)
    dice: NDArray[np.float64] = 2.0 * np.diagonal(counts) / np.maximum(total, 1)
    return dice


def _torch_masks(deployed: DeployedNet, images: Images) -> Images:
    deployed.eval()
    # Without TF32, which a GPU may be allowed in training: the comparison is with float32.
    with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
        mask, _ = deployed(torch.from_numpy(np.ascontiguousarray(images)).to(deployed.normalise.mean.device))
    masks: Images = mask.cpu().numpy()
    return masks
