"""`segkit segment`: scan files in, mask files out.

Nothing heavy is imported before it is needed, and the model loads while the first scan is read: for one
slice the start-up is most of what the user waits for.
"""

from __future__ import annotations

import sys
import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from segkit.errors import SegkitError

if TYPE_CHECKING:
    from segkit.imaging.scan import Scan
    from segkit.inference.jobs import Job, Plan
    from segkit.inference.segmenter import Segmentation, Segmenter

# typer evaluates the annotations of `segment` when it runs, so they use names of this module only.
_Path = Optional[Path]  # noqa: UP045
_Text = Optional[str]  # noqa: UP045
_Number = Optional[int]  # noqa: UP045
_Texts = Optional[list[str]]  # noqa: UP045


def segment(
    scans: Annotated[
        _Texts,
        typer.Argument(help="TIFF, PNG or NIfTI files, folders of slices, patterns.", show_default=False),
    ] = None,
    model: Annotated[
        _Text, typer.Option(help="An .onnx file, a run directory or a run's name.", show_default=False)
    ] = None,
    output: Annotated[
        _Path,
        typer.Option("--output", "-o", help="A file for one scan, else a directory; without it, beside the scan."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda; auto takes a GPU for many slices.")] = "auto",
    batch: Annotated[_Number, typer.Option(help="Slices at once; without it, 4 on a CPU, 32 on a GPU.")] = None,
    overlay: Annotated[bool, typer.Option("--overlay", help="Also write SCAN_overlay.png.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Also write areas and volumes: SCAN_mask.json.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that exist.")] = False,
    pre: Annotated[_Path, typer.Option(help="First channel: the sequence before contrast.")] = None,
    flair: Annotated[_Path, typer.Option(help="Second channel: FLAIR; replaces a missing one.")] = None,
    post: Annotated[_Path, typer.Option(help="Third channel: the sequence after contrast.")] = None,
    largest_component: Annotated[
        bool, typer.Option("--largest-component", help="Keep the largest connected part of each class.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
) -> None:
    """Turn scans into masks, each written beside its scan as SCAN_mask.tif (.png, .nii.gz)."""
    from segkit.inference.find import find_model
    from segkit.inference.jobs import check_targets

    warnings.filterwarnings("ignore", module="PIL")  # of damaged files, which get their one line anyway
    plan = _plan(scans or [], (pre, flair, post), output)
    model_path = find_model(model)
    check_targets(plan.jobs, overlay=overlay, measures=json, force=force)
    for message in (*plan.notes, *plan.failures):
        _complain(message)
    failed = len(plan.failures)
    loading = _Loading(model_path, device, plan, batch)
    for job in plan.jobs:
        try:
            scan = _read(job)
            line = _segment(job, scan, loading.result(), overlay, json, largest_component)
        except _ModelError as error:
            raise error.cause from None
        except SegkitError as error:
            _complain(error)
            failed += 1
            continue
        if not quiet:
            print(line, flush=True)
    loading.join()  # where no scan could be read: the process must not end in the middle of it
    if failed:
        sys.exit(SegkitError.exit_code)


class _ModelError(Exception):
    """The model cannot be loaded: nothing can be done for any scan."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.cause = cause


class _Loading(threading.Thread):
    """Loads the model beside the reading of the first scan; ONNX Runtime does most of it outside Python."""

    def __init__(self, model: Path, device: str, plan: Plan, batch: int | None) -> None:
        super().__init__(name="segkit-model", daemon=True)
        self._arguments = model, device, plan.estimated_slices, batch
        self._segmenter: Segmenter | None = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            from segkit.inference.segmenter import Segmenter
            from segkit.inference.session import Model

            path, device, slices, batch = self._arguments
            self._segmenter = Segmenter(Model.load(path, device, slices), batch)
        except BaseException as error:
            self._error = error

    def result(self) -> Segmenter:
        """Wait for the model. Raises _ModelError."""
        self.join()
        if self._segmenter is None:
            raise _ModelError(self._error or RuntimeError("the model's thread ended"))
        return self._segmenter


def _plan(scans: list[str], sequences: tuple[Path | None, Path | None, Path | None], output: Path | None) -> Plan:
    from segkit.inference.jobs import plan_channels, plan_scans

    if any(sequences):
        if scans:
            raise SegkitError("give either scans or --pre --flair --post, not both")
        return plan_channels(sequences, output)
    if not scans:
        raise SegkitError("no scan is given; for example: segkit segment scan.tif --model RUN")
    return plan_scans(scans, output)


def _read(job: Job) -> Scan:
    from segkit.imaging.read import read_scan
    from segkit.imaging.write import check_target

    scan = read_scan(job.sources[0] if len(job.sources) == 1 else job.sources)
    check_target(job.mask, scan)
    return scan


def _segment(job: Job, scan: Scan, segmenter: Segmenter, overlay: bool, json: bool, largest: bool) -> str:
    """Segment, write, and give the line to print."""
    from dataclasses import replace

    from segkit.imaging.write import write_mask

    metadata = segmenter.model.metadata
    result = segmenter.segment(scan)
    if largest:
        from segkit.inference.postprocess import largest_component

        result = replace(result, mask=largest_component(result.mask))
    write_mask(job.mask, result.mask, scan, metadata.mask_values)
    if overlay:
        from segkit.imaging.overlay import write_overlay

        write_overlay(job.overlay, result.image, result.mask, metadata.classes, spacing=scan.spacing)
    if json:
        _write_measures(job, scan, result, segmenter)
    return _line(job, scan, result, metadata.classes)


def _write_measures(job: Job, scan: Scan, result: Segmentation, segmenter: Segmenter) -> None:
    from segkit.files import write_json
    from segkit.inference.postprocess import measure

    model = segmenter.model
    content = {
        "scan": [str(source) for source in job.sources],
        "mask": str(job.mask),
        "model": str(model.path),
        "run_id": model.metadata.run_id,
        "device": model.device,
        "shape": list(scan.shape),
        "spacing_mm": scan.spacing and list(scan.spacing),
        "classes": measure(result.mask, scan, model.metadata.classes),
    }
    write_json(job.measures, content)


def _line(job: Job, scan: Scan, result: Segmentation, classes: tuple[str, ...]) -> str:
    """`scan_mask.nii.gz: 176 x 188 x 144, tumour 12.3 ml in 31 slices`."""
    slices, height, width = scan.shape
    size = f"{width} x {height}" + (f" x {slices}" if slices > 1 else "")
    parts = [
        _amount(name, (result.mask == index).any(axis=(1, 2)).sum(), (result.mask == index).sum(), scan)
        for index, name in enumerate(classes)
        if index
    ]
    return f"{job.mask}: {size}, {', '.join(parts)}"


def _amount(name: str, slices: int, pixels: int, scan: Scan) -> str:
    where = f" in {slices} slices" if scan.shape[0] > 1 else ""
    if scan.spacing is None:
        return f"{name} {pixels} px{where}"
    millimetres = pixels * scan.spacing[1] * scan.spacing[2]
    if scan.shape[0] == 1:
        return f"{name} {millimetres:.0f} mm2"
    return f"{name} {millimetres * scan.spacing[0] / 1000:.2f} ml{where}"


def _complain(message: object) -> None:
    print(f"segkit: {message}", file=sys.stderr, flush=True)
