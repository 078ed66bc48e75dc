"""Which answer a client wants, by its Accept header or by `?answer=`."""

from __future__ import annotations

from segkit.serving.errors import RequestError

MASK, MEASURES, OVERLAY, EVENTS = "mask", "measures", "overlay", "events"

# What each media type asks for; a mask also has the suffix of its file, empty for that of the input.
ANSWERS = {
    "application/json": (MEASURES, ""),
    "image/png": (OVERLAY, ""),
    "text/event-stream": (EVENTS, ""),
    "application/octet-stream": (MASK, ""),
    "image/tiff": (MASK, ".tif"),
    "application/gzip": (MASK, ".nii.gz"),
    "application/x-gzip": (MASK, ".nii.gz"),
    "application/zip": (MASK, ".zip"),
    "application/dicom": (MASK, ".dcm"),
}
_NAMED = {MASK: (MASK, ""), MEASURES: (MEASURES, ""), OVERLAY: (OVERLAY, ""), EVENTS: (EVENTS, "")}


def wanted_answer(accept: str, named: str) -> tuple[str, str]:
    """The kind of answer, and the suffix of a mask. `named` (the query's) wins over the header.

    Raises:
        RequestError: 400 an unknown name, 406 only types that are never given.
    """
    if named:
        if named not in _NAMED:
            raise RequestError(400, f"answer is none of {', '.join(_NAMED)}")
        return _NAMED[named]
    ranges = sorted(_ranges(accept), key=lambda pair: -pair[1])
    refused = {name for name, quality in ranges if quality <= 0}
    for name, quality in ranges:
        if quality <= 0:
            continue
        if name in ANSWERS:
            return ANSWERS[name]
        if name in ("*/*", "application/*", "image/*") and not {"*/*", name} & refused:
            return MASK, ""
    if not ranges:
        return MASK, ""
    raise RequestError(406, f"Accept names none of {', '.join(ANSWERS)}")


def _ranges(accept: str) -> list[tuple[str, float]]:
    """The media ranges of a header with their qualities, in their order."""
    found = []
    for word in accept.split(","):
        name, *parameters = (part.strip().lower() for part in word.split(";"))
        quality = next((text[2:].strip() for text in parameters if text.startswith("q=")), "1")
        if name:
            found.append((name, _number(quality)))
    return found


def _number(text: str) -> float:
    try:
        return min(1.0, max(0.0, float(text)))
    except ValueError:
        return 0.0
