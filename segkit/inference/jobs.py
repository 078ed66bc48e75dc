"""Which scans the paths of a user mean, and where each mask goes: by names and places, not by pixels."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from segkit.errors import FileError, SegkitError
from segkit.imaging import naming
from segkit.imaging.naming import IMAGE_SUFFIXES, NIFTI_SUFFIXES, is_output_name, natural_key, stem_of
from segkit.imaging.sniff import READABLE, kind_of

if TYPE_CHECKING:
    from segkit.imaging.dicom.stacks import Study

ROLES = ("pre", "flair", "post")
STUDY_SUFFIXES = (*naming.OUTPUT_SUFFIXES, ".dcm")

_SLICE_BYTES = 2**16  # of file that a slice is taken to have while nothing has been read
_VOLUMES = tuple(suffix for suffix in NIFTI_SUFFIXES if not suffix.startswith(".img"))  # a pair counts once


@dataclass(frozen=True)
class Job:
    """One scan (a path, or one for each channel) and its mask file."""

    sources: tuple[Path, ...]
    mask: Path

    @property
    def overlay(self) -> Path:
        """The picture to look at, beside the mask."""
        return self.mask.with_name(stem_of(self.mask).removesuffix("_mask") + "_overlay.png")

    @property
    def measures(self) -> Path:
        """The JSON file, beside the mask."""
        return self.mask.with_name(stem_of(self.mask) + ".json")


@dataclass(frozen=True)
class StudyJob:
    """One DICOM study. Its mask is named by the series that it lies on, which is known once that is chosen."""

    study: Study
    picks: dict[str, str]  # role -> series number, UID or folder
    output: Path  # a directory, or the mask itself
    prefix: str  # tells the studies of a call apart
    name: str  # what messages call it: the path that was given, or the study's number

    @property
    def slices(self) -> int:
        """How many slices the net will see, about."""
        return max((len(stack.frames) for stack in self.study.stacks), default=1)

    @property
    def named(self) -> bool:
        """Whether the user named the mask's file, not its folder."""
        return self.output.name.lower().endswith(STUDY_SUFFIXES)

    def mask(self, series_number: int | None) -> Path:
        """The mask's file: no part of its name comes from the patient."""
        if self.named:
            return self.output
        number = "x" if series_number is None else str(series_number)
        return self.output / f"{self.prefix}series-{number}_mask.nii.gz"


@dataclass
class Plan:
    """All jobs of a call, what cannot be done, and what the user should know."""

    jobs: list[Job] = field(default_factory=list)
    studies: list[StudyJob] = field(default_factory=list)
    failures: list[SegkitError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def estimated_slices(self) -> int:
        """A guess by file sizes, good enough to choose a device before anything is read."""
        files = (file for job in self.jobs for source in job.sources for file in _files(source))
        guessed = sum(max(1, file.stat().st_size // _SLICE_BYTES) for file in files)
        return guessed + sum(job.slices for job in self.studies)


def plan_scans(arguments: Sequence[str], output: Path | None, picks: Mapping[str, str] | None = None) -> Plan:
    """One job for each scan: a file, a folder of slices, each NIfTI of a folder, each match of a pattern.

    DICOM files, wherever they lie, are gathered; each study among them is a job. `picks` overrides which of its
    series is which sequence. Masks and overlays are left out unless one is the only argument.

    Raises:
        SegkitError: `output` is a file's name and there are several scans; `picks` without DICOM.
    """
    plan = Plan()
    scans: dict[Path, None] = {}
    dicom: dict[Path, None] = {}
    skipped = 0
    for argument in arguments:
        try:
            found = _expand(argument)
        except SegkitError as error:
            plan.failures.append(error)
            continue
        if len(arguments) > 1:
            skipped += sum(is_output_name(path) for path in found if path.is_file())
            found = [path for path in found if path.is_dir() or not is_output_name(path)]
        for path in found:
            (dicom if _is_dicom(path) else scans)[path] = None
    if skipped:
        plan.notes.append(f"{skipped} files named ..._mask or ..._overlay are not scans and left out")
    if dicom:
        _plan_studies(plan, list(dicom), output, dict(picks or {}))
    elif picks and not plan.failures:
        raise SegkitError("give either scans or --pre --flair --post, not both; only a DICOM study takes them together")
    several = len(scans) + len(plan.studies) > 1
    if several and output is not None and output.name.lower().endswith(STUDY_SUFFIXES) and not output.is_dir():
        raise SegkitError(f"-o {output}: several scans need a directory")
    plan.jobs = [Job((scan,), _target(scan, output, several=several)) for scan in scans]
    return plan


def plan_channels(sequences: Sequence[str | Path | None], output: Path | None) -> Plan:
    """One job for the sequences pre, FLAIR and post of a patient; FLAIR stands in for a missing one.

    Each is a file; or each is a folder, an archive or a file of DICOM.

    Raises:
        SegkitError: there is no FLAIR.
    """
    paths = [None if sequence is None else Path(sequence) for sequence in sequences]
    _, flair, _ = paths
    if flair is None:
        raise SegkitError("--flair is missing: the other sequences alone are not what a net is trained on")
    given = {role: path for role, path in zip(ROLES, paths, strict=True) if path is not None}
    plan = Plan()
    if any(_is_dicom(path) for path in given.values()):
        picks = {role: str(path) for role, path in given.items()}
        _plan_studies(plan, list(dict.fromkeys(given.values())), output, picks)
        return plan
    for name, path in zip(ROLES, paths, strict=True):
        if path is None:
            plan.notes.append(f"--{name} is missing: FLAIR stands in for it, as in the LGG dataset")
    sources = tuple(path or flair for path in paths)
    plan.jobs = [Job(sources, _target(flair, output, several=False))]
    return plan


def _plan_studies(plan: Plan, paths: list[Path], output: Path | None, picks: dict[str, str]) -> None:
    """Add a job for each study in these files, folders and archives."""
    from segkit.imaging.dicom.volume import open_studies

    try:
        studies, notes = open_studies(paths)
    except SegkitError as error:
        plan.failures.append(error)
        return
    plan.notes += notes
    target = output if output is not None else paths[0].resolve().parent
    if output is None and not paths[0].is_absolute():
        target = paths[0].parent if paths[0].name not in ("", "..") else target
    if len(studies) > 1 and picks:
        raise SegkitError(f"{len(studies)} studies are given; --pre, --flair and --post choose series of one")
    for number, study in enumerate(studies, 1):
        prefix = f"study-{number}-" if len(studies) > 1 else ""
        name = f"study {number} of {len(studies)}" if len(studies) > 1 else str(paths[0])
        plan.studies.append(StudyJob(study, picks, target, prefix, name))


def _holds_dicom(folder: Path) -> bool:
    from segkit.imaging.dicom.files import holds_dicom

    return holds_dicom(folder)


def _is_dicom(path: Path) -> bool:
    """Whether a path that was found is DICOM, by its content; a folder of pictures alone is not looked through."""
    if path.is_dir():
        return not (naming.slice_files(path) and _only_pictures(path)) and _holds_dicom(path)
    try:
        return kind_of(path) in ("dicom", "zip")
    except FileError:
        return False  # what is wrong with it, the reader says


def check_targets(jobs: Iterable[Job], *, overlay: bool, measures: bool, force: bool) -> None:
    """Whether all outputs can be written without harm, before any work is done.

    Raises:
        SegkitError: two scans would write one file, or one would be overwritten that must not be.
    """
    owners: dict[Path, Path] = {}
    sources = {source.resolve() for job in jobs for source in job.sources}
    wanted = []
    for job in jobs:
        for target in (job.mask, *([job.overlay] if overlay else []), *([job.measures] if measures else [])):
            if target.resolve() in sources:
                raise FileError(target, "is a scan of this call and would be overwritten", "choose another -o")
            if target in owners:
                what = f"would be written for {owners[target]} and for {job.sources[0]}"
                raise FileError(target, what, "segment them one at a time with -o")
            owners[target] = job.sources[0]
            wanted.append(target)
    refuse_overwriting(wanted, force)


def refuse_overwriting(targets: Sequence[Path], force: bool) -> None:
    """Raise FileError for a target that exists, unless `force` and segkit wrote it. Nothing else is overwritten."""
    existing = [path for path in targets if path.exists()]
    if existing and not force:
        more = f", and so do {len(existing) - 1} more" if len(existing) > 1 else ""
        raise FileError(existing[0], f"exists{more}", "--force overwrites, -o writes elsewhere")
    if existing:
        from segkit.imaging.marks import is_ours

        for path in existing:
            if not is_ours(path):
                raise FileError(
                    path, "exists and was not written by segkit", "move it away, or write elsewhere with -o"
                )


def _expand(argument: str) -> list[Path]:
    path = Path(argument)
    if path.is_dir():
        return _expand_folder(path)
    if path.exists() or not glob.has_magic(argument):
        return [path]  # what is wrong with it, if anything, the reader says
    matches = sorted((Path(match) for match in glob.glob(argument, recursive=True)), key=natural_key)  # noqa: PTH207
    found = [scan for match in matches for scan in (_expand_folder(match) if match.is_dir() else [match])]
    found = [scan for scan in found if scan.is_dir() or not is_output_name(scan)]
    if not found:
        raise FileError(argument, "matches no scan")
    return found


def _expand_folder(folder: Path) -> list[Path]:
    """The folder itself if it holds slices or DICOM, its volumes if it holds those, else those of its subfolders.

    Pictures beside DICOM are a viewer's, as on discs from hospitals.
    """
    found = _scans_in(folder)
    if found == [folder] and not _only_pictures(folder) and _holds_dicom(folder):
        return [folder]
    if not found:
        below = sorted((path for path in folder.iterdir() if path.is_dir()), key=natural_key)
        found = [scan for path in below if not path.name.startswith(".") for scan in _scans_in(path)]
    if not found and _holds_dicom(folder):
        found = [folder]
    if not found:
        raise FileError(folder, "holds no scans", READABLE)
    return found


def _only_pictures(folder: Path) -> bool:
    """Whether there is nothing in a folder but slices, masks and hidden files."""
    visible = (path for path in folder.iterdir() if not path.name.startswith("."))
    return all(path.suffix.lower() in IMAGE_SUFFIXES for path in visible)


def _scans_in(folder: Path) -> list[Path]:
    files = naming.folder_files(folder)
    volumes = [path for path in files if path.name.lower().endswith(_VOLUMES)]
    if volumes and any(path.suffix.lower() in IMAGE_SUFFIXES for path in files):
        raise FileError(folder, "holds both NIfTI volumes and slices", "name the files that you mean")
    return volumes or ([folder] if naming.slice_files(folder) else [])


def _target(scan: Path, output: Path | None, *, several: bool) -> Path:
    """The mask's file: beside the scan, in the directory `output`, or `output` itself."""
    if output is None:
        return scan.resolve().parent / _mask_name(scan) if scan.name in ("", "..") else scan.with_name(_mask_name(scan))
    if output.is_dir() or not output.name.lower().endswith(naming.OUTPUT_SUFFIXES):
        return output / _mask_name(scan)
    if several:
        raise SegkitError(f"-o {output}: several scans need a directory")
    return output


def _mask_name(scan: Path) -> str:
    if scan.is_dir():
        return f"{scan.resolve().name}_mask.tif"
    name = scan.name.lower()
    suffix = ".png" if name.endswith(".png") else ".nii.gz" if name.endswith(NIFTI_SUFFIXES) else ".tif"
    return f"{stem_of(scan)}_mask{suffix}"


def _files(source: Path) -> list[Path]:
    if source.is_dir():
        return naming.slice_files(source)
    return [source] if source.is_file() else []
