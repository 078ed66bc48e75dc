"""Export a run's best checkpoint, through the parity gate on its validation slices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from segkit.data.layouts import find_cases
from segkit.data.read import read_case
from segkit.data.split import Split
from segkit.data.survey import Frame
from segkit.errors import SegkitError
from segkit.export.parity import Parity, export_checked
from segkit.files import read_json
from segkit.runs import RunDirectory
from segkit.training.checkpoint import load_deployed
from segkit.training.config import TrainConfig

BATCH = 8


def export_run(run: RunDirectory, output: Path | None = None, data: str = "") -> tuple[Path, Parity]:
    """Write `model.onnx` (or `output`).

    The file takes its name only after it has decided like the trained net on every validation slice.

    Raises:
        ParityError: it did not; nothing is written.
        SegkitError: no best checkpoint, or the dataset is not there to check on.
    """
    deployed, description = load_deployed(run.best)
    metadata = description.metadata
    if run.evaluation.exists():
        figures = {key: figure["value"] for key, figure in read_json(run.evaluation)["figures"].items()}
        metadata = replace(metadata, metrics={**metadata.metrics, "test": figures})
    target = output or run.onnx
    folder = data or TrainConfig.load(run.config).data.data
    frame = Frame(metadata.size, metadata.fit)
    return target, export_checked(deployed, metadata, target, _validation_slices(folder, run, frame))


def _validation_slices(folder: str, run: RunDirectory, frame: Frame) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Patient, images uint8 [N, H, W, C] and masks uint8 [N, H, W], as the net sees them."""
    case_set = find_cases(Path(folder))
    wanted = set(Split.load(run.split).val)
    cases = [case for case in case_set.cases if case.patient in wanted]
    if not cases:
        raise SegkitError(f"{folder}: has none of the run's validation patients, on which the export is checked")
    for case in cases:
        images, masks = frame.apply(*read_case(case_set, case))
        for start in range(0, len(images), BATCH):
            yield case.patient, images[start : start + BATCH], masks[start : start + BATCH]
