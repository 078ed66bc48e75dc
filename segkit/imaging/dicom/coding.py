"""The codes of what a class is: finding, category and anatomy, from SNOMED CT as DICOM's context groups have them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom.sr.coding import Code

_SCHEME = "99SEGKIT"  # of classes that no context group knows; 99 marks a private scheme

# Words of a class's name -> keyword in CID 7159 (lesion segmentation types). The first that fits counts.
_LESIONS = (
    (r"oedema|edema", "Edema"),
    (r"necro", "Necrosis"),
    (r"non.?enhanc", "NonEnhancingLesion"),
    (r"enhanc", "EnhancingLesion"),
    (r"tumou?r|glioma|neoplasm|cancer|metasta", "Neoplasm"),
    (r"cyst", "Cyst"),
    (r"ha?emorrh|bleed", "Hemorrhage"),
    (r"lesion|plaque|wmh|infarct|stroke", "Lesion"),
)


@dataclass(frozen=True)
class Coding:
    """Category, type and anatomic region of a segment."""

    category: Code
    kind: Code
    region: Code


def coding_of(name: str) -> Coding:
    """The codes of a class by its name. What no context group knows keeps its own name in a private scheme."""
    from pydicom.sr.codedict import codes
    from pydicom.sr.coding import Code

    plain = name.lower()
    brain = Code("12738006", "SCT", "Brain")
    for pattern, keyword in _LESIONS:
        if re.search(pattern, plain):
            kind = getattr(codes.cid7159, keyword)
            return Coding(codes.cid7150.MorphologicallyAbnormalStructure, kind, brain)
    if re.search(r"hippocamp|anterior|posterior", plain):
        region = Code("5366008", "SCT", "Hippocampus")
        return Coding(codes.cid7150.AnatomicalStructure, _own(name), region)
    return Coding(codes.cid7150.Tissue, _own(name), brain)


def _own(name: str) -> Code:
    from pydicom.sr.coding import Code

    value = re.sub(r"[^A-Z0-9_]+", "_", name.upper())[:16] or "CLASS"
    return Code(value, _SCHEME, name[:64])
