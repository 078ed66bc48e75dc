"""Which scans the paths of a user mean, and where each mask goes: by names and places, not by pixels."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from segkit.errors import FileError, SegkitError
from segkit.imaging import naming
from segkit.imaging.naming import IMAGE_SUFFIXES, NIFTI_SUFFIXES, is_output_name, natural_key, stem_of
from segkit.imaging.sniff import READABLE, kind_of

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


@dataclass
class Plan:
    """All jobs of a call, what cannot be done, and what the user should know."""

    jobs: list[Job] = field(default_factory=list)
    failures: list[SegkitError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def estimated_slices(self) -> int:
        """A guess by file sizes, good enough to choose a device before anything is read."""
        files = (file for job in self.jobs for source in job.sources for file in _files(source))
        return sum(max(1, file.stat().st_size // _SLICE_BYTES) for file in files)


def plan_scans(arguments: Sequence[str], output: Path | None) -> Plan:
    """One job for each scan: a file, a folder of slices, each NIfTI of a folder, each match of a pattern.

    Masks and overlays are left out unless one is the only argument.

    Raises:
        SegkitError: `output` is a file's name and there are several scans.
    """
    plan = Plan()
    scans: dict[Path, None] = {}
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
        scans.update(dict.fromkeys(found))
    if skipped:
        plan.notes.append(f"{skipped} files named ..._mask or ..._overlay are not scans and left out")
    plan.jobs = [Job((scan,), _target(scan, output, several=len(scans) > 1)) for scan in scans]
    return plan


def plan_channels(sequences: Sequence[Path | None], output: Path | None) -> Plan:
    """One job for the sequences pre, FLAIR and post of a patient; FLAIR stands in for a missing one.

    Raises:
        SegkitError: there is no FLAIR.
    """
    _, flair, _ = sequences
    if flair is None:
        raise SegkitError("--flair is missing: the other sequences alone are not what a net is trained on")
    plan = Plan()
    for name, path in zip(("--pre", "--flair", "--post"), sequences, strict=True):
        if path is None:
            plan.notes.append(f"{name} is missing: FLAIR stands in for it, as in the LGG dataset")
    sources = tuple(path or flair for path in sequences)
    plan.jobs = [Job(sources, _target(flair, output, several=False))]
    return plan


def check_targets(jobs: Iterable[Job], *, overlay: bool, measures: bool, force: bool) -> None:
    """Whether all outputs can be written without harm, before any work is done.

    Raises:
        SegkitError: two scans would write one file, or one would be overwritten.
    """
    owners: dict[Path, Path] = {}
    existing = []
    sources = {source.resolve() for job in jobs for source in job.sources}
    for job in jobs:
        for target in (job.mask, *([job.overlay] if overlay else []), *([job.measures] if measures else [])):
            if target.resolve() in sources:
                raise FileError(target, "is a scan of this call and would be overwritten", "choose another -o")
            if target in owners:
                what = f"would be written for {owners[target]} and for {job.sources[0]}"
                raise FileError(target, what, "segment them one at a time with -o")
            owners[target] = job.sources[0]
            if target.exists():
                existing.append(target)
    if existing and not force:
        more = f", and so do {len(existing) - 1} more" if len(existing) > 1 else ""
        raise FileError(existing[0], f"exists{more}", "--force overwrites, -o writes elsewhere")


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
    """The folder itself if it holds slices, its volumes if it holds those, else those of its subfolders."""
    found = _scans_in(folder)
    if not found:
        below = sorted((path for path in folder.iterdir() if path.is_dir()), key=natural_key)
        found = [scan for path in below if not path.name.startswith(".") for scan in _scans_in(path)]
    if not found:
        raise FileError(folder, "holds no scans", _remedy(folder))
    return found


def _remedy(folder: Path) -> str:
    for file in naming.folder_files(folder)[:1]:
        try:
            kind_of(file)
        except FileError as error:
            if "DICOM" in error.reason:
                return error.remedy
    return READABLE


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
