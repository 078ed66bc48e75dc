"""What MR sequence a stack of slices is, by its description, its protocol and its timing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from segkit.imaging.dicom.frames import Frame
from segkit.imaging.dicom.reading import number, value
from segkit.imaging.dicom.stacks import Stack

ROLES = ("pre", "flair", "post", "t2")
ROLE_NAMES = {"pre": "T1 before contrast", "flair": "FLAIR", "post": "T1 after contrast", "t2": "T2"}

_FLAIR = re.compile(r"flair|tirm|dark.?fluid")
_T1 = re.compile(r"t1|mp.?rage|spgr|bravo|\bvibe|\btfl|fspgr|mp2rage")
_T2 = re.compile(r"t2|\btse\b|\bfse\b|propeller|blade")
_POST = re.compile(
    r"post|\+ ?c\b|\bc ?\+|\+ ?gd|\bgd\b|gado|gad\b|\bce\b|t1.?ce|t1.?gd|t1.?c\b|\bkm\b|contrast|kontrast"
)
_PRE = re.compile(
    r"(?<![a-z])pre(?![a-z])|pre.?contrast|t1.?pre|non.?contrast|without|(?<![a-z])w ?o(?![a-z])|nativ|unenhanced|"
    r"\bohne\b|plain"
)
_OTHER = re.compile(
    r"dwi|diff|dti|adc|trace|swi|swan|hemo|perf|dsc|\bdce|asl|cbf|cbv|mtt|tmax|angio|tof|mra\b|mrv|loc\b|locali|scout|"
    r"survey|phase|field.?map|\bb1\b|spectro|\bcsi|svs|bold|fmri|epi\b|ep2d|subtr|\bmip|stir|t2\*|dose|screen|aahead"
)
_DERIVED = re.compile(r"mpr|reformat|\bref\b|rfmt")
_NO_AGENT = {"", "NO", "NONE", "N", "NO CONTRAST", "W/O"}


@dataclass(frozen=True)
class Finding:
    """What a stack was taken for.

    Attributes:
        kind: "flair", "t1", "t2", or "" for anything else.
        contrast: "post", "pre", or "" where nothing says.
        reasons: the words and times that it rests on.
    """

    kind: str
    contrast: str
    reasons: tuple[str, ...]


def classify(stack: Stack) -> Finding:
    """Recognise the sequence of a stack."""
    frame = stack.first
    text = _text(frame.header)
    kinds = str(value(frame.header, "ImageType", "")).lower()
    if (found := _OTHER.search(text)) or (found := re.search("locali|adc|trace|projection|mosaic", kinds)):
        return Finding("", "", (f'"{found.group().strip()}" is none of the sequences',))
    timing, why = _by_timing(frame)
    kind, words = _by_words(text, timing)
    reasons = [words] if words else []
    if why and (not kind or timing == kind):
        reasons.append(why)
    elif why and timing:
        reasons.append(f"though {why} is that of {timing.upper()}")
    kind = kind or timing
    contrast = ""
    if kind == "t1":
        contrast, reason = _contrast(frame, text)
        reasons += [reason] if reason else []
    return Finding(kind, contrast, tuple(reasons))


def is_derived(stack: Stack) -> bool:
    """Whether the images were computed from others: a reformat, a secondary capture."""
    header = stack.first.header
    return bool(_DERIVED.search(_text(header))) or "DERIVED" in str(value(header, "ImageType", ""))


def plane_of(stack: Stack) -> str:
    """The plane of the slices: axial, coronal, sagittal; "" where unknown. Oblique ones count as the nearest."""
    directions = stack.first.directions
    if directions is None:
        return ""
    normal = np.abs(np.cross(directions[0], directions[1]))
    return ("sagittal", "coronal", "axial")[int(normal.argmax())]


def acquisition_time(stack: Stack) -> str:
    """A text that sorts by time; "" where unknown."""
    for name in ("AcquisitionDateTime", "AcquisitionTime", "SeriesTime", "ContentTime"):
        if found := value(stack.first.header, name):
            return str(found)[-13:] if name == "AcquisitionDateTime" else str(found)
    return ""


def _text(header: Any) -> str:
    """Description and protocol in lower case, every run of other signs than + as one space."""
    words = " ".join(str(value(header, name, "")) for name in ("SeriesDescription", "ProtocolName"))
    return re.sub(r"[^a-z0-9+*]+", " ", words.lower()).strip()


def _by_words(text: str, timing: str) -> tuple[str, str]:
    """The kind by description and protocol. "T1 FLAIR" is a T1, "T2 FLAIR" a FLAIR."""
    flair, first, second = (pattern.search(text) for pattern in (_FLAIR, _T1, _T2))
    if flair and not (first and timing in ("t1", "")):
        return "flair", f'"{flair.group()}"'
    if first:
        return "t1", f'"{first.group()}"'
    return ("t2", f'"{second.group()}"') if second and timing in ("t2", "") else ("", "")


def _by_timing(frame: Frame) -> tuple[str, str]:
    """The kind by repetition, echo and inversion time in ms, and these times as words."""
    repetition, echo, inversion = _times(frame)
    known = {"TR": repetition, "TE": echo, "TI": inversion}
    words = " ".join(f"{name} {round(time, 1):g}" for name, time in known.items() if time)
    if not echo or not repetition:
        return "", ""
    if inversion and inversion >= 1400 and repetition >= 4000:
        return "flair", words
    if echo <= 40 and repetition <= 1200:
        return "t1", words
    if echo <= 15 and inversion and 300 <= inversion <= 1400:
        return "t1", words
    if echo >= 60 and repetition >= 2000 and not inversion:
        return "t2", words
    return "", words


def _times(frame: Frame) -> tuple[float | None, float | None, float | None]:
    """Repetition, echo and inversion time; of an enhanced object those of its first frame."""
    names = ("RepetitionTime", "EchoTime", "InversionTime")
    found = [number(frame.header, name) for name in names]
    groups = [
        items[0]
        for name in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
        if len(items := value(frame.header, name, ()))
    ]
    for group in groups:
        for sequence, name, place in (
            ("MRTimingAndRelatedParametersSequence", "RepetitionTime", 0),
            ("MREchoSequence", "EffectiveEchoTime", 1),
            ("MRModifierSequence", "InversionTimes", 2),
        ):
            items = value(group, sequence, ())
            if len(items) and found[place] is None:
                found[place] = number(items[0], name)
    return found[0], found[1], found[2]


def _contrast(frame: Frame, text: str) -> tuple[str, str]:
    """Words go before the tag, which scanners keep from the protocol of the whole examination."""
    if found := _PRE.search(text):
        return "pre", f'"{found.group().strip()}"'
    if found := _POST.search(text):
        return "post", f'"{found.group().strip()}"'
    agent = str(value(frame.header, "ContrastBolusAgent", "")).strip().upper()
    amount = number(frame.header, "ContrastBolusVolume") or number(frame.header, "ContrastBolusTotalDose")
    if agent not in _NO_AGENT or amount or len(value(frame.header, "ContrastBolusAgentSequence", ())):
        return "post", "a contrast agent is named"
    return "", ""
