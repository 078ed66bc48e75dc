"""What MR sequence a stack of slices is, by its description, its protocol and its timing."""

from __future__ import annotations

import re
import unicodedata
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
# Of the examination, not of one series: "BRAIN W/WO CONTRAST".
_BOTH = re.compile(r"(?<![a-z])w(?:ith)?[ -]?(?:and |& )?w(?:ith)?[ -]?o(?:ut)?(?![a-z])|pre ?(?:and|[+-])? ?post")
_POST = re.compile(
    r"post(?!er|[ -]?(?:op|rt\b|surg|treat))|\+ ?c\b|\bc ?\+|\+ ?gd|\bgd\b|gado|gad\b|\bce\b|t1.?ce|t1.?gd|t1.?c\b|"
    r"\bkm\b|contrast|kontrast|\bmdc\b|\binj|\benhanced"
)
_PRE = re.compile(
    r"(?<![a-z])pre(?![a-z])|pre.?contrast|t1.?pre|\bnon?[ -]?(?:con|gad|gd|mdc|km)|without|(?<![a-z])w[ -]?o(?![a-z])|"
    r"nativ|unenhanced|plain|\bc-(?![a-z0-9])|(?<![a-z0-9])-c\b|\b(?:ohne|vor|sans|avant|sin|sem|senza) "
)
_OTHER = re.compile(
    r"dwi|diff|dti|adc|trace|swi|swan|hemo|perf|dsc|\bdce|asl|cbf|cbv|mtt|tmax|angio|tof|mra\b|mrv|loc\b|locali|scout|"
    r"survey|phase|field.?map|\bb1\b|spectro|\bcsi|svs|bold|fmri|epi\b|ep2d|subtr|\bmip|stir|t2\*|dose.?(?:report|info)|"
    r"screen|aahead"
)
_DERIVED = re.compile(r"mpr.?range|reformat|\bref\b|rfmt")  # "t1_mpr" is an MPRAGE as it was scanned
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
    """Recognise the sequence of a stack: by its description, else by its protocol's name, else by timing.

    A protocol's name may be that of the whole examination, so that it decides only what the description leaves open.
    """
    frame = stack.first
    description, protocol = (_plain(value(frame.header, name, "")) for name in ("SeriesDescription", "ProtocolName"))
    timing, why = _by_timing(frame)
    kind, words = _by_words(description, timing)
    other = _OTHER.search(description) or re.search("locali|adc|trace|projection|mosaic", _image_type(stack))
    if other or (not kind and (other := _OTHER.search(protocol))):
        return Finding("", "", (f'"{other.group().strip()}" is none of the sequences',))
    if not kind:
        kind, words = _by_words(protocol, timing)
    reasons = [words] if words else []
    if why and (not kind or timing == kind):
        reasons.append(why)
    elif why and timing:
        reasons.append(f"though {why} is that of {timing.upper()}")
    kind = kind or timing
    contrast = ""
    if kind == "t1":
        contrast, reason = _contrast(frame, description, protocol)
        reasons += [reason] if reason else []
    return Finding(kind, contrast, tuple(reasons))


def is_derived(stack: Stack) -> bool:
    """Whether the images were computed from others: a reformat, a secondary capture."""
    text = _plain(value(stack.first.header, "SeriesDescription", ""))
    return bool(_DERIVED.search(text)) or "derived" in _image_type(stack)


def plane_of(stack: Stack) -> str:
    """The plane of the slices: axial, coronal, sagittal; "" where unknown. Oblique ones count as the nearest."""
    directions = stack.first.directions
    if directions is None:
        return ""
    normal = np.abs(np.cross(directions[0], directions[1]))
    return ("sagittal", "coronal", "axial")[int(normal.argmax())]


def acquisition_time(stack: Stack) -> str:
    """A text that sorts by time: date, then time of day; "" where either is unknown."""
    header = stack.first.header
    if found := value(header, "AcquisitionDateTime"):
        return str(found)
    for kind in ("Acquisition", "Series", "Content"):
        date, time = value(header, f"{kind}Date", value(header, "StudyDate", "")), value(header, f"{kind}Time")
        if time:
            return f"{date}{time}"
    return ""


def _image_type(stack: Stack) -> str:
    return str(value(stack.first.header, "ImageType", "")).lower()


def _plain(text: Any) -> str:
    """Lower case without accents, every run of other signs than + - * as one space."""
    letters = unicodedata.normalize("NFKD", str(text)).lower()
    letters = "".join(sign for sign in letters if not unicodedata.combining(sign))
    return re.sub(r"[^a-z0-9+*-]+", " ", letters).strip()


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


def _contrast(frame: Frame, description: str, protocol: str) -> tuple[str, str]:
    """Words go before the tag, which scanners keep from the protocol of the whole examination.

    So does the protocol's name, unless it names a T1 itself.
    """
    for text in (description, protocol if _T1.search(protocol) else ""):
        words = _BOTH.sub(" ", text)
        if found := _PRE.search(words):
            return "pre", f'"{found.group().strip()}"'
        if found := _POST.search(words):
            return "post", f'"{found.group().strip()}"'
    agent = str(value(frame.header, "ContrastBolusAgent", "")).strip().upper()
    amount = number(frame.header, "ContrastBolusVolume") or number(frame.header, "ContrastBolusTotalDose")
    if agent not in _NO_AGENT or amount or len(value(frame.header, "ContrastBolusAgentSequence", ())):
        return "post", "a contrast agent is named"
    return "", ""
