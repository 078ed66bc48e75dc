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

from segkit.cli.progress_bar import ProgressBar
from segkit.errors import SegkitError

if TYPE_CHECKING:
    from segkit.imaging.scan import Scan
    from segkit.inference.jobs import Job, Plan, StudyJob
    from segkit.inference.outputs import Wanted
    from segkit.inference.segmenter import Segmenter, Slicing

# typer evaluates the annotations of `segment` when it runs, so they use names of this module only.
_Path = Optional[Path]  # noqa: UP045
_Text = Optional[str]  # noqa: UP045
_Number = Optional[int]  # noqa: UP045
_Decimal = Optional[float]  # noqa: UP045
_Texts = Optional[list[str]]  # noqa: UP045


def segment(
    scans: Annotated[
        _Texts,
        typer.Argument(
            help="TIFF, PNG or NIfTI files, folders of slices, patterns; DICOM files, folders, zip archives.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        _Text,
        typer.Option(
            help="An .onnx file, a run directory, an installed model or a run's name; without it, the package's.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        _Path,
        typer.Option("--output", "-o", help="A file for one scan, else a directory; without it, beside the scan."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda; auto takes a GPU for many slices.")] = "auto",
    batch: Annotated[_Number, typer.Option(help="Slices at once; without it, 4 on a CPU, 32 on a GPU.")] = None,
    overlay: Annotated[
        bool, typer.Option("--overlay", help="Also write SCAN_overlay.png, and SCAN_planes.png of a volume.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Also write areas, volumes, lesions: SCAN_mask.json.")] = False,
    sr: Annotated[bool, typer.Option("--sr", help="DICOM: also write the measures as a structured report.")] = False,
    anonymise: Annotated[
        bool, typer.Option("--anonymise", help="DICOM: write everything, and the images, without the patient.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that segkit wrote.")] = False,
    pre: Annotated[
        _Text, typer.Option(help="First channel, before contrast: a file; in a study a series number, UID or folder.")
    ] = None,
    flair: Annotated[_Text, typer.Option(help="Second channel, FLAIR; replaces a missing one.")] = None,
    post: Annotated[_Text, typer.Option(help="Third channel, after contrast.")] = None,
    plane: Annotated[
        str, typer.Option(help="axial, coronal, sagittal; auto is the model's, else that of the best resolution.")
    ] = "auto",
    pixel_mm: Annotated[
        _Decimal, typer.Option(help="Pixel size in mm to resample slices to; without it, the model's, if it says.")
    ] = None,
    volume: Annotated[_Text, typer.Option(help="Of a 4-D NIfTI: a number from 0; all or 0,1 for channels.")] = None,
    flip: Annotated[
        bool, typer.Option("--flip", help="Let the net see each slice mirrored, too: better masks, twice the time.")
    ] = False,
    smooth: Annotated[
        _Decimal,
        typer.Option(
            help="Gaussian over the probabilities of neighbouring slices: its sigma in slices; without it, the model's."
        ),
    ] = None,
    threshold: Annotated[
        _Decimal,
        typer.Option(help="Probability, from 0 to 1, from which a voxel is no background; without it, the model's."),
    ] = None,
    min_lesion: Annotated[
        _Text, typer.Option(help="Drop smaller lesions: 0.1ml, 10% of the largest, 30 for voxels; else the model's.")
    ] = None,
    by_slice: Annotated[
        bool, typer.Option("--by-slice", help="Each slice for itself, without the model's rule for volumes.")
    ] = False,
    largest_component: Annotated[
        bool, typer.Option("--largest-component", help="Keep the largest connected part of each class.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
) -> None:
    """Turn scans into masks, each written beside its scan as SCAN_mask.tif (.png, .nii.gz; DICOM also _seg.dcm)."""
    from segkit.inference.find import find_model
    from segkit.inference.jobs import check_targets

    # Of damaged files, which get their one line anyway; those of DICOM libraries hold values of the file.
    warnings.filterwarnings("ignore", module="PIL|pydicom|highdicom")
    plan = _plan(scans or [], (pre, flair, post), output)
    model_path = find_model(model) if model is not None else _default_model(device, plan, quiet)
    check_targets(plan.jobs, overlay=overlay, measures=json, force=force)
    for message in (*plan.notes, *plan.failures):
        _complain(message)
    if (sr or anonymise) and plan.jobs:
        raise SegkitError("--sr and --anonymise are for DICOM")
    if volume is not None and plan.studies:
        raise SegkitError("--volume is for NIfTI; of a DICOM study --flair and the like choose a series")
    from segkit.inference.outputs import Wanted
    from segkit.inference.postprocess import LesionSize
    from segkit.inference.segmenter import Slicing

    least = LesionSize.parse(min_lesion) if min_lesion else None
    slicing = Slicing(plane, pixel_mm, flip or None, smooth, threshold, least, by_slice)
    wanted = Wanted(overlay, json, sr, anonymise, largest_component, force)
    if not plan.studies:
        # nibabel imports pydicom where that is installed, which takes longer than all that a NIfTI needs.
        sys.modules.setdefault("pydicom", None)  # type: ignore[arg-type]
    loading = _Loading(model_path, device, plan, batch)
    failed = len(plan.failures)
    jobs: list[Job | StudyJob] = [*plan.jobs, *plan.studies]
    for job in jobs:
        try:
            lines = _do(job, loading, volume, slicing, wanted)
        except _ModelError as error:
            raise error.cause from None
        except SegkitError as error:
            _complain(error)
            failed += 1
            continue
        if not quiet:
            print(*lines, sep="\n", flush=True)
    loading.join()  # where no scan could be read: the process must not end in the middle of it
    if failed:
        sys.exit(SegkitError.exit_code)


def _default_model(device: str, plan: Plan, quiet: bool) -> Path:
    """The package's model for what these scans will be segmented on; it is named to the user."""
    from segkit.inference.find import find_model
    from segkit.inference.session import expected_device

    path = find_model(None, device=expected_device(device, plan.estimated_slices))
    if not quiet:
        _complain(f"no --model: using {path.stem}; `segkit models card {path.stem}` says what it is for")
    return path


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


def _plan(scans: list[str], sequences: tuple[str | None, str | None, str | None], output: Path | None) -> Plan:
    from segkit.inference.jobs import ROLES, plan_channels, plan_scans

    picks = {role: pick for role, pick in zip(ROLES, sequences, strict=True) if pick is not None}
    if not scans:
        if picks:
            return plan_channels(sequences, output)
        raise SegkitError("no scan is given; for example: segkit segment scan.tif")
    return plan_scans(scans, output, picks)


def _do(job: Job | StudyJob, loading: _Loading, volume: str | None, slicing: Slicing, wanted: Wanted) -> list[str]:
    """Read, segment, write; give the lines to print."""
    from segkit.inference.jobs import Job, refuse_overwriting

    lines: list[str] = []
    if isinstance(job, Job):
        scan, mask, sources = _read(job, volume), job.mask, [str(source) for source in job.sources]
    else:
        # Which series are wanted, the model's channels say.
        scan, chosen = _read_study(job, loading.result().model.metadata.channels)
        mask, sources = job.mask(scan.dicom.series_number if scan.dicom else None), []
        lines.append(chosen)
    segmenter = loading.result()
    for note in scan.notes:
        _complain(note)

    from dataclasses import replace

    from segkit.imaging.write import check_target
    from segkit.inference.outputs import summary, targets_beside, write_all
    from segkit.inference.postprocess import largest_component

    named = not isinstance(job, Job) and job.named
    targets = targets_beside(mask, wanted, dicom=scan.dicom is not None, place=scan.affine is not None, named=named)
    refuse_overwriting(targets.files(), wanted.force)
    if targets.mask is not None:
        check_target(targets.mask, scan)
    if wanted.anonymise:
        from segkit.imaging.dicom.copies import check_pixels

        if note := check_pixels(scan):
            _complain(note)
    progress = ProgressBar("segmenting")
    try:
        result = segmenter.segment(scan, slicing, progress)
    finally:
        progress.close()
    if wanted.largest:
        result = replace(result, mask=largest_component(result.mask))
    write_all(targets, sources, scan, result, segmenter.model, wanted)
    if result.plane != "axial":
        lines.append(f"the net saw {result.plane} slices; --plane chooses others")
    return [*lines, summary(targets, scan, result, segmenter.model.metadata.classes)]


def _read(job: Job, volume: str | None) -> Scan:
    from segkit.imaging.read import read_scan

    several = len(job.sources) > 1
    return read_scan(job.sources if several else job.sources[0], volume, reference=1 if several else 0)


def _read_study(job: StudyJob, channels: tuple[str, ...]) -> tuple[Scan, str]:
    """The scan of a study, and which series it is made of."""
    from segkit.imaging.dicom.choose import roles_of
    from segkit.imaging.dicom.sequences import ROLE_NAMES
    from segkit.imaging.dicom.volume import read_study

    try:
        scan, choice = read_study(job.study, job.picks, roles_of(channels))
    except SegkitError as error:
        raise SegkitError(f"{job.name}: {error}") from error
    used = scan.dicom.stacks if scan.dicom is not None else ()
    names = [f"{ROLE_NAMES[role] if choice.recognised else 'every channel'}: {stack.name}" for role, stack in used]
    return scan, ", ".join(names)


def _complain(message: object) -> None:
    print(f"segkit: {message}", file=sys.stderr, flush=True)
