"""Keeps a patient's name and numbers out of what is shown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from segkit.imaging.dicom.reading import value

if TYPE_CHECKING:
    from pydicom import Dataset

_PRIVATE = ("PatientName", "PatientID", "OtherPatientIDs", "AccessionNumber", "PatientBirthDate")
_SHORTEST = 3  # letters; a shorter part of a name is in too many words


def redacted(text: str, header: Dataset) -> str:
    """`text`, free text of a file, with every part of the patient's name and numbers as asterisks."""
    for name in _PRIVATE:
        parts = re.split(r"[\^=\\ ,'\[\]]+", str(value(header, name, "")))
        for part in parts:
            if len(part) >= _SHORTEST:
                text = re.sub(re.escape(part), "***", text, flags=re.IGNORECASE)
    return "".join(sign if sign.isprintable() else " " for sign in text)
