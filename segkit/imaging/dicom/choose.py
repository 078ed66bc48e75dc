"""Which stack of a study becomes which channel of a net, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from segkit.errors import SegkitError
from segkit.imaging.dicom.reading import value
from segkit.imaging.dicom.sequences import (
    ROLE_NAMES,
    Finding,
    acquisition_time,
    classify,
    is_derived,
    plane_of,
)
from segkit.imaging.dicom.stacks import Stack, Study

_FEW_SLICES = 5  # fewer are a scout, or a sample
_ALIASES = {
    "pre": "pre", "t1": "pre", "t1w": "pre", "t1pre": "pre", "t1n": "pre", "t1native": "pre",
    "flair": "flair", "t2flair": "flair", "t2f": "flair",
    "post": "post", "t1gd": "post", "t1c": "post", "t1ce": "post", "t1post": "post", "t1km": "post",
    "t2": "t2", "t2w": "t2",
}  # fmt: skip


@dataclass(frozen=True)
class Candidate:
    """A stack, what it was recognised as, and its role if it has one."""

    stack: Stack
    finding: Finding
    role: str = ""  # of ROLES; "" for none


Rank = Callable[[Candidate], Sequence[tuple[float, str]]]  # in falling order: a value, and what a lower one means


@dataclass
class Choice:
    """The stack of each role, and what the user should know.

    Attributes:
        recognised: False where the only series is taken for every channel, whatever it is.
        beaten: by the id of a stack that was passed over: which one goes before it, and why.
    """

    roles: dict[str, Stack] = field(default_factory=dict)
    candidates: list[Candidate] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    recognised: bool = True
    beaten: dict[int, str] = field(default_factory=dict)

    def best(self, rivals: list[Candidate], rank: Rank) -> Stack:
        """The first by rank; of the others it is noted what they lack."""
        winner = max(rivals, key=lambda one: [value for value, _ in rank(one)])
        for rival in rivals:
            pairs = zip(rank(winner), rank(rival), strict=True)
            lacks = next((what for (most, _), (own, what) in pairs if own < most), None)
            if lacks is not None:
                self.beaten[id(rival.stack)] = f"{winner.stack.name} goes before it: {lacks}"
        return winner.stack


def roles_of(channels: Sequence[str]) -> tuple[str, ...]:
    """The roles of a model's channels, by their names; three unnamed ones are pre, FLAIR and post, as in the LGG set.

    Raises:
        SegkitError: other channels.
    """
    plain = ["".join(sign for sign in name.lower() if sign.isalnum()) for name in channels]
    named = tuple(_ALIASES.get(name, "") for name in plain)
    if all(named):
        return named
    if len(channels) == 3:
        return ("pre", "flair", "post")
    if len(channels) == 1:
        return ("flair",)
    known = ", ".join(ROLE_NAMES.values())
    what = f"the model's channels ({', '.join(channels)}) are not among the sequences that a study is searched for"
    raise SegkitError(f"{what} ({known})")


def choose(study: Study, picks: Mapping[str, str], wanted: Sequence[str] = ("pre", "flair", "post")) -> Choice:
    """Choose a stack for each wanted role. `picks` overrides by series number (5, or 5/2 for a part), UID or folder.

    Raises:
        SegkitError: a pick that names no usable series, or no FLAIR among several series.
    """
    choice = Choice(candidates=[Candidate(stack, classify(stack)) for stack in study.stacks])
    usable = [candidate for candidate in choice.candidates if not candidate.stack.fault]
    if not usable:
        raise SegkitError(_nothing(study))
    for role, pick in picks.items():
        choice.roles[role] = _picked(role, pick, study)
    reference = reference_role(wanted)
    if reference not in choice.roles:
        choice.roles[reference] = _find_reference(reference, usable, choice)
    stack = choice.roles[reference]
    for role in ("post", "pre", "t2"):
        if role not in choice.roles and role in (*wanted, "pre", "post"):
            found = _best(role, usable, stack, choice)
            if found is not None:
                choice.roles[role] = found
    for role in wanted:
        if role not in choice.roles and len(usable) > 1:
            instead = "as in the LGG dataset" if reference == "flair" else "as nothing else is there"
            choice.notes.append(f"no {ROLE_NAMES[role]} is found: {ROLE_NAMES[reference]} stands in for it, {instead}")
    _note_frames(choice, stack, wanted)
    chosen = {id(one): role for role, one in reversed(choice.roles.items())}
    choice.candidates = [Candidate(one.stack, one.finding, chosen.get(id(one.stack), "")) for one in choice.candidates]
    return choice


def reference_role(wanted: Sequence[str]) -> str:
    """The role on whose grid everything lies: FLAIR where it is wanted, else the first."""
    return "flair" if "flair" in wanted else wanted[0]


def _nothing(study: Study) -> str:
    faults = [f"{stack.name} {stack.fault}" for stack in study.stacks if stack.fault]
    return "no series can be segmented" + (f": {'; '.join(faults[:3])}" if faults else "")


def _picked(role: str, pick: str, study: Study) -> Stack:
    """The stack that a flag names."""
    found = [stack for stack in study.stacks if pick in _names(stack)]
    if not found and Path(pick).exists():
        place = Path(pick).resolve()
        found = [stack for stack in study.stacks if place in (at := stack.first.member.path.resolve(), *at.parents)]
    if not found:
        listed = ", ".join(dict.fromkeys(_names(stack)[stack.parts > 1] for stack in study.stacks))
        raise SegkitError(f"--{role} {pick}: no such series; there are the numbers {listed}")
    usable = [stack for stack in found if not stack.fault]
    if not usable:
        raise SegkitError(f"--{role} {pick}: {found[0].name} {found[0].fault}")
    if len({stack.series_uid for stack in usable}) > 1:
        raise SegkitError(f"--{role} {pick}: names {len(usable)} series; give a series number or UID")
    return max(usable, key=lambda stack: len(stack.present))


def _names(stack: Stack) -> tuple[str, ...]:
    """What a flag may call a stack: 5, for part 2 of it 5/2, or the series UID."""
    return (str(stack.series_number), f"{stack.series_number}/{stack.part}", stack.series_uid)


def _find_reference(role: str, usable: list[Candidate], choice: Choice) -> Stack:
    """The best series of a role; the only series of a study, whatever it is."""
    kind = {"flair": "flair", "t2": "t2"}.get(role, "t1")
    contrasts = ("", role) if kind == "t1" else ("",)
    found = [one for one in usable if one.finding.kind == kind and one.finding.contrast in contrasts]
    if found:
        marked = "nothing says which T1 this one is"
        return choice.best(found, lambda one: [(one.finding.contrast != "", marked), *_quality(one)])
    if len(usable) == 1:
        stack = usable[0].stack
        choice.recognised = False
        what = f"{stack.name} is not recognised as {ROLE_NAMES[role]}"
        choice.notes.append(f"{what}; as the only series it is taken for every channel")
        modality = str(value(stack.first.header, "Modality", ""))
        if modality != "MR":
            choice.notes.append(f"{stack.name} is {modality or 'of no modality'}, not MR")
        return stack
    names = ", ".join(candidate.stack.name for candidate in usable[:8])
    remedy = f"name it with --{role} NUMBER (`segkit data inspect` shows all)"
    raise SegkitError(f"no {ROLE_NAMES[role]} is recognised among {names}; {remedy}")


def _best(role: str, usable: list[Candidate], flair: Stack, choice: Choice) -> Stack | None:
    """The best stack for a role beside the FLAIR, or None."""
    kind = "t2" if role == "t2" else "t1"
    taken = {id(stack) for stack in choice.roles.values()}
    rivals = [
        candidate
        for candidate in usable
        if candidate.finding.kind == kind and id(candidate.stack) not in taken and _one_frame(candidate.stack, flair)
    ]
    if role == "post":
        rivals = [one for one in rivals if one.finding.contrast == "post"] or _by_time(rivals, choice)
    elif role == "pre":
        marked = [one for one in rivals if one.finding.contrast == "pre"]
        rivals = marked or [one for one in rivals if one.finding.contrast == ""]
    if not rivals:
        return None
    return choice.best(rivals, lambda one: [*_likeness(one.stack, flair), *_quality(one)])


def _by_time(rivals: list[Candidate], choice: Choice) -> list[Candidate]:
    """Of T1 series that nothing marks, the later of two alike is the one after contrast."""
    plain = [one for one in rivals if one.finding.contrast == "" and acquisition_time(one.stack)]
    plain.sort(key=lambda one: acquisition_time(one.stack))
    if len(plain) < 2 or not same_grid(plain[0].stack, plain[-1].stack):
        return []
    if acquisition_time(plain[0].stack) == acquisition_time(plain[-1].stack):
        return []
    later = plain[-1].stack.name
    choice.notes.append(f"nothing marks a T1 as after contrast; {later} is taken for it, as the later one")
    return [plain[-1]]


def _quality(candidate: Candidate) -> list[tuple[float, str]]:
    """What makes a series the better of two: a real volume, axial, original, of many slices, scanned first."""
    stack = candidate.stack
    return [
        (len(stack.present) >= _FEW_SLICES, "this one has few slices"),
        (not is_derived(stack), "this one is computed from others"),
        (plane_of(stack) == "axial", "this one is not axial"),
        (len(stack.present), "this one has fewer slices"),
        (-(stack.series_number or 0), "this one's number is higher"),
        (-stack.part, "this one is a later part"),
    ]


def _likeness(stack: Stack, flair: Stack) -> list[tuple[float, str]]:
    return [
        (len(stack.present) >= _FEW_SLICES, "this one has few slices"),
        (same_grid(stack, flair), "this one is on another grid than FLAIR"),
        (plane_of(stack) == plane_of(flair), "this one lies in another plane than FLAIR"),
    ]


def same_grid(one: Stack, other: Stack) -> bool:
    """Whether two stacks have the same size, place and direction, as far as their headers are rounded alike."""
    return _geometry(one) == _geometry(other)


def _geometry(stack: Stack) -> tuple[float, ...]:
    """Size, place and direction, rounded: equal for series on one grid."""
    first = stack.first
    if first.position is None or first.directions is None or first.pixel is None:
        return (float(first.shape[0]), float(first.shape[1]))
    return (
        *map(float, first.shape),
        float(len(stack.frames)),
        *np.round(first.position, 1),
        *np.round(first.directions.ravel(), 3),
        *np.round(first.pixel, 3),
    )


def _one_frame(stack: Stack, other: Stack) -> bool:
    """Whether both share a frame of reference, as far as they say."""
    one, two = (str(value(item.first.header, "FrameOfReferenceUID", "")) for item in (stack, other))
    return one == two or not one or not two


def _note_frames(choice: Choice, reference: Stack, wanted: Sequence[str]) -> None:
    for role in wanted:
        stack = choice.roles.get(role)
        if stack is not None and not _one_frame(stack, reference):
            names = f"{stack.name} and {reference.name}"
            choice.notes.append(f"{names} have different frames of reference: nothing says that they match in place")
