"""Export a run's best checkpoint, through the parity gate on its validation slices."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from segkit.data.layouts import find_cases
from segkit.data.read import read_case
from segkit.data.split import Split
from segkit.data.survey import Frame
from segkit.errors import ConfigError, FileError, SegkitError
from segkit.export.onnx_model import read_metadata, set_metadata
from segkit.export.parity import Parity, check_form, export_checked
from segkit.files import atomic_path, read_json
from segkit.runs import RunDirectory
from segkit.training.checkpoint import load_deployed
from segkit.training.config import TrainConfig
from segkit.workflow.volume_rule import with_rule

BATCH = 8
FORMS = ("fp16", "w8", "int8")
CALIBRATION_PATIENTS = 16


def export_run(run: RunDirectory, output: Path | None = None, data: str = "") -> tuple[Path, Parity]:
    """Write `model.onnx` (or `output`).

    The file takes its name only after it has decided like the trained net on every validation slice.

    Raises:
        ParityError: it did not; nothing is written.
        SegkitError: no best checkpoint, or the dataset is not there to check on.
    """
    deployed, description = load_deployed(run.best)
    metadata = with_rule(description.metadata, run)
    if run.evaluation.exists():
        figures = {key: figure["value"] for key, figure in read_json(run.evaluation)["figures"].items()}
        metadata = replace(metadata, metrics={**metadata.metrics, "test": figures})
    target = output or run.onnx
    folder = data or TrainConfig.load(run.config).data.data
    frame = Frame(metadata.size, metadata.fit)
    return target, export_checked(deployed, metadata, target, _validation_slices(folder, run, frame))


def export_form(run: RunDirectory, form: str, output: Path | None = None, data: str = "") -> tuple[Path, Parity]:
    """Write a smaller form (one of FORMS) of the run's exported model, `model-<form>.onnx` or `output`.

    Each is compared with the exported model on the validation patients, whose Dice may move by 0.002 on average.

    Raises:
        ConfigError: another form. ParityError: it decides otherwise; nothing is written.
        SegkitError: the run has no exported model, or the dataset is not there.
    """
    if form not in FORMS:
        raise ConfigError("form", form, ", ".join(FORMS))
    if not run.onnx.exists():
        raise FileError(run.onnx, "does not exist", f"write it with `segkit export {run.path}`")
    target = output or run.form(form)
    metadata = read_metadata(run.onnx)
    with atomic_path(target) as temporary:
        parity = write_form(run, form, data or TrainConfig.load(run.config).data.data, temporary)
        parity.require_form()
        set_metadata(temporary, replace(metadata, metrics={**metadata.metrics, form: parity.as_json()}))
    return target, parity


def write_form(run: RunDirectory, form: str, folder: str, target: Path) -> Parity:
    """Write a smaller form of the run's exported model to `target`, whether or not it is close enough.

    int8 is calibrated on slices of the training patients. Of several ranges of the activations it takes one that is
    close enough before one that is not, and then the one by which most pixels of the validation patients get the class
    that they had: that is steadier than their Dice, which one patient in whom the net is unsure can rule.

    Returns:
        How far it decides like the exported model.
    """
    metadata = read_metadata(run.onnx)
    frame = Frame(metadata.size, metadata.fit)
    ways = _ways(run, form, folder)
    with tempfile.TemporaryDirectory() as scratch:
        made = [Path(scratch) / f"{at}.onnx" for at in range(len(ways))]
        parities = []
        for write, path in zip(ways, made, strict=True):
            write(path)
            parities.append(check_form(run.onnx, path, _validation_slices(folder, run, frame)))
        best = max(range(len(ways)), key=lambda at: (parities[at].suits_form, parities[at].agreeing))
        shutil.copyfile(made[best], target)
    return parities[best]


def _ways(run: RunDirectory, form: str, folder: str) -> list[Callable[[Path], None]]:
    """What writes a smaller form to a file: one or several, of which the best is taken."""
    from segkit.export.quantise import PERCENTILES
    from segkit.export.weights import halve_weights, quarter_weights

    if form == "int8":
        return [partial(_write_int8, run, folder, percentile) for percentile in PERCENTILES]
    return [partial(halve_weights if form == "fp16" else quarter_weights, run.onnx)]


def _write_int8(run: RunDirectory, folder: str, percentile: float, target: Path) -> None:
    from segkit.export.quantise import quantise_int8

    metadata = read_metadata(run.onnx)
    slices = _calibration_slices(folder, run, Frame(metadata.size, metadata.fit))
    quantise_int8(run.onnx, target, slices, percentile)


def _calibration_slices(folder: str, run: RunDirectory, frame: Frame) -> Iterator[np.ndarray]:
    """Some slices of some training patients, with and without foreground: images uint8 [N, H, W, C]."""
    case_set = find_cases(Path(folder))
    wanted = sorted(set(Split.load(run.split).train) & {case.patient for case in case_set.cases})
    chosen = set(wanted[:: max(1, len(wanted) // CALIBRATION_PATIENTS)])
    for case in case_set.cases:
        if case.patient in chosen:
            images, masks = frame.apply(*read_case(case_set, case))
            filled = np.flatnonzero(masks.reshape(len(masks), -1).any(axis=1))
            middle = filled[len(filled) // 2 :][:1]
            yield images[sorted({*middle.tolist(), len(images) // 4, len(images) // 2})]


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
