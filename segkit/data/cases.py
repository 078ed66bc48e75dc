"""What every dataset layout becomes: cases (patients) of slices, each with its mask."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SliceRef:
    """Where one slice and its mask are: a file a slice (TIFF, PNG), or a position in a volume (NIfTI)."""

    images: tuple[Path, ...]  # one file with all channels, or one file a channel
    mask: Path
    index: int  # position along the slice axis of a volume; 0 for a file a slice


@dataclass(frozen=True, slots=True)
class Case:
    """One patient (one scan session): the unit of every split and of every per-patient figure."""

    patient: str
    institution: str  # "" where the layout names none
    slices: tuple[SliceRef, ...]  # in anatomical order
    shape: tuple[int, int]  # height, width of each slice in pixels
    spacing: tuple[float, float, float] | None  # millimetres between slices, rows, columns; None if unknown


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that cannot be used, and why."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True)
class CaseSet:
    """A dataset as found on disk. Picklable, so that loader workers can have it."""

    root: Path
    layout: str  # "lgg", "decathlon", "pairs"
    cases: tuple[Case, ...]  # sorted by patient
    classes: tuple[str, ...]  # background first
    channels: tuple[str, ...]
    mask_values: tuple[int, ...]  # raw mask value of each class: (0, 255), (0, 1, 2), ...
    problems: tuple[Problem, ...]  # files left out while the layout was read
    licence: str = ""
