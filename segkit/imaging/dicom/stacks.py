"""From a heap of images to stacks: series by UID, volumes within a series, slices by position along their normal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from segkit.imaging.dicom.files import Member
from segkit.imaging.dicom.frames import ATTRIBUTES, Frame, frames_of, is_scan
from segkit.imaging.dicom.reading import DamagedError, NotDicomError, number, read_dataset, value

_SAME_DIRECTION = 1e-3  # of a unit vector: 0.06 degrees
_SAME_POSITION = 0.01  # mm along the normal
_UNEVEN = 0.05  # of the distance between slices; more is no rounding
_MOST_MISSING = 0.5  # of the slices that are there; with more a series is no volume


@dataclass(frozen=True)
class Stack:
    """Slices on one grid, sorted by position along the normal.

    Attributes:
        frames: None stands for a slice that is missing.
        step: vector between neighbouring slices, mm; None where the slices have no places.
        part, parts: which volume of its series it is, from 1, and how many there are.
        notes: what is odd about it, one line each.
        fault: why it cannot be used; empty where it can.
    """

    frames: tuple[Frame | None, ...]
    step: NDArray[np.float64] | None
    part: int = 1
    parts: int = 1
    notes: tuple[str, ...] = ()
    fault: str = ""

    @property
    def present(self) -> list[Frame]:
        """The slices that are there."""
        return [frame for frame in self.frames if frame is not None]

    @property
    def first(self) -> Frame:
        """The first slice that is there."""
        return self.present[0]

    @property
    def series_uid(self) -> str:
        """Series instance UID."""
        return str(value(self.first.header, "SeriesInstanceUID", ""))

    @property
    def series_number(self) -> int | None:
        """Series number; None where there is none."""
        found = number(self.first.header, "SeriesNumber")
        return None if found is None else int(found)

    @property
    def name(self) -> str:
        """How the stack is called in messages: no word of the file's."""
        number_ = self.series_number
        series = "the series without a number" if number_ is None else f"series {number_}"
        return series if self.parts == 1 else f"{series} (part {self.part} of {self.parts})"


@dataclass
class Study:
    """The stacks of one study, what was left out, and why."""

    uid: str
    stacks: list[Stack] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_studies(members: Iterable[Member]) -> tuple[list[Study], list[str]]:
    """Read the headers of every file: the studies, by UID, and notes about files that are no images.

    Raises:
        FileError: a file cannot be opened.
    """
    series: dict[tuple[str, str], list[Frame]] = defaultdict(list)
    faults: dict[str, int] = defaultdict(int)
    others = 0
    for member in members:
        try:
            header = read_dataset(member, pixels=False, only=ATTRIBUTES)
            if not is_scan(header):
                others += 1
                continue
            frames = frames_of(member, header)
            key = str(value(header, "StudyInstanceUID", "")), str(value(header, "SeriesInstanceUID", ""))
            series[key].extend(frames)
        except NotDicomError:
            others += 1
        except DamagedError as error:
            faults[str(error)] += 1
    studies: dict[str, Study] = {}
    for (study, _), frames in series.items():
        studies.setdefault(study, Study(study)).stacks.extend(split_series(frames))
    for one in studies.values():
        one.stacks.sort(key=lambda stack: (stack.series_number or 0, stack.series_uid, stack.part))
    notes = [f"{count} {'file' if count == 1 else 'files'}: {fault}" for fault, count in sorted(faults.items())]
    if others:
        notes.append(f"{others} {'file' if others == 1 else 'files'} without an image left out")
    return list(studies.values()), notes


def split_series(frames: list[Frame]) -> list[Stack]:
    """The stacks of one series: images of one size and direction, and of one echo, time and b-value."""
    groups: list[list[Frame]] = []
    for frame in frames:
        home = next((group for group in groups if _alike(group[0], frame)), None)
        if home is None:
            groups.append([frame])
        else:
            home.append(frame)
    volumes = [volume for group in groups for volume in _volumes(group)]
    volumes.sort(key=len, reverse=True)
    stacks = [make_stack(volume) for volume in volumes]
    if len(stacks) > 1:
        stacks[0] = replace(stacks[0], notes=(*stacks[0].notes, _name_others(stacks)))
    return [replace(stack, part=part, parts=len(stacks)) for part, stack in enumerate(stacks, 1)]


def make_stack(frames: list[Frame]) -> Stack:
    """Sort the slices of one volume; name missing, duplicate and uneven ones."""
    notes: list[str] = []
    if not all(frame.is_placed for frame in frames):
        ordered = sorted(frames, key=lambda frame: (frame.instance, frame.index))
        return Stack(tuple(ordered), None, fault="says not where in the patient it lies")
    normal = _normal(frames[0])
    ordered = sorted(frames, key=lambda frame: (_along(frame, normal), frame.instance, frame.index))
    ordered = _without_duplicates(ordered, normal, notes)
    if len(ordered) == 1:
        return Stack((ordered[0],), normal * _thickness(ordered[0]), notes=tuple(notes))
    positions = np.array([frame.position for frame in ordered])
    places, uneven = _places(positions @ normal)
    step = (positions[-1] - positions[0]) / places[-1]
    missing = int(places[-1]) + 1 - len(ordered)
    off = np.linalg.norm(positions - (positions[0] + places[:, None] * step), axis=1).max()
    if uneven or missing > _MOST_MISSING * len(ordered) or off > _UNEVEN * np.linalg.norm(step):
        # Before there is a slot for each: a position far away would ask for billions.
        gaps = np.diff(positions @ normal)
        fault = f"has slices at uneven distances ({gaps.min():.2f} to {gaps.max():.2f} mm)"
        return Stack(tuple(ordered), step, notes=tuple(notes), fault=fault)
    slots: list[Frame | None] = [None] * (len(ordered) + missing)
    for place, frame in zip(places, ordered, strict=True):
        slots[int(place)] = frame
    if missing:
        notes.append(_name_missing(slots, missing))
    return Stack(tuple(slots), step, notes=tuple(notes))


def _alike(one: Frame, other: Frame) -> bool:
    if one.shape != other.shape or one.is_placed != other.is_placed:
        return False
    if one.directions is None or other.directions is None or one.pixel is None or other.pixel is None:
        return not one.is_placed
    same_size = np.allclose(one.pixel, other.pixel, rtol=1e-3, atol=0)
    return bool(same_size and np.abs(one.directions - other.directions).max() < _SAME_DIRECTION)


def _volumes(group: list[Frame]) -> list[list[Frame]]:
    """Images on one grid as volumes; they are told apart only where several lie in one place."""
    if not group[0].is_placed:
        return [group]
    normal = _normal(group[0])
    places = {(frame.uid, frame.index): round(_along(frame, normal) / _SAME_POSITION) for frame in group}
    if len(set(places.values())) == len(places):
        return [group]
    by_kind: dict[tuple[str, ...], list[Frame]] = defaultdict(list)
    for frame in group:
        by_kind[frame.volume].append(frame)
    return list(by_kind.values())


def _normal(frame: Frame) -> NDArray[np.float64]:
    assert frame.directions is not None
    return np.cross(frame.directions[0], frame.directions[1])


def _along(frame: Frame, normal: NDArray[np.float64]) -> float:
    assert frame.position is not None
    return float(frame.position @ normal)


def _without_duplicates(frames: list[Frame], normal: NDArray[np.float64], notes: list[str]) -> list[Frame]:
    kept: list[Frame] = []
    dropped: list[Frame] = []
    for frame in frames:
        twin = kept and abs(_along(frame, normal) - _along(kept[-1], normal)) < _SAME_POSITION
        (dropped if twin else kept).append(frame)
    if dropped:
        numbers = _listed(sorted({frame.instance for frame in dropped}))
        what = "slice lies" if len(dropped) == 1 else "slices lie"
        notes.append(f"{len(dropped)} {what} where another does and {_are(len(dropped))} left out (instance {numbers})")
    return kept


def _places(along: NDArray[np.float64]) -> tuple[NDArray[np.int64], bool]:
    """The slot of each slice on an even grid, and whether some do not fit one. The median distance is the step."""
    gaps = np.diff(along)
    step = float(np.median(gaps))
    whole = np.maximum(1, np.rint(gaps / step)).astype(np.int64)
    # The mean over all steps, because a header rounds each position.
    step = float(gaps.sum() / whole.sum())
    uneven = bool((np.abs(gaps - whole * step) > _UNEVEN * step).any())
    return np.concatenate([[0], np.cumsum(whole)]), uneven


def _name_missing(slots: list[Frame | None], missing: int) -> str:
    gaps, before = [], 0
    for index, slot in enumerate(slots):
        if slot is None and slots[index - 1] is not None:
            before = index - 1
        if slot is not None and index and slots[index - 1] is None:
            ends = (slots[before], slot)
            gaps.append(" and ".join(str(end.instance) for end in ends if end is not None))
    what = "slice is" if missing == 1 else "slices are"
    return f"{missing} {what} missing, between instances {'; '.join(gaps[:4])}; empty ones stand in"


def _name_others(stacks: list[Stack]) -> str:
    """What the images beside the largest volume of a series are."""
    kinds: dict[str, list[int]] = defaultdict(list)
    for stack in stacks[1:]:
        kinds[_difference(stacks[0].first, stack.first)] += [frame.instance for frame in stack.present]
    listed = [f"{_listed(sorted(numbers))} ({kind})" for kind, numbers in kinds.items()]
    return f"instances {', '.join(listed)} are not of this volume and left out"


def _difference(one: Frame, other: Frame) -> str:
    """In what two images differ, so that they are no slices of one volume."""
    if one.shape != other.shape:
        return f"{other.shape[1]} x {other.shape[0]}"
    if one.directions is None or other.directions is None or one.pixel is None or other.pixel is None:
        return "without a place" if one.is_placed else "with a place"
    if np.abs(one.directions - other.directions).max() >= _SAME_DIRECTION:
        return "of another direction"
    if not np.allclose(one.pixel, other.pixel, rtol=1e-3, atol=0):
        return "of another pixel size"
    return "of another echo, time, b-value or kind"


def _thickness(frame: Frame) -> float:
    """Millimetres that a single slice stands for."""
    for name in ("SpacingBetweenSlices", "SliceThickness"):
        found = number(frame.header, name)
        if found is not None and found > 0:
            return found
    return 1.0


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers[:6])) + (", ..." if len(numbers) > 6 else "")


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
