"""Takes the patient out of DICOM headers, by the basic profile of DICOM PS3.15, annex E.

The table of attributes and actions is that of the package dicom-anonymizer. It is applied at every depth; UIDs are
replaced consistently among all objects of one call, so that a mask still refers to its images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from segkit.errors import SegkitError

if TYPE_CHECKING:
    from pydicom import DataElement, Dataset

# The earliest date that validators take for one.
_DUMMIES = {"DA": "19000101", "TM": "000000", "DT": "19000101000000", "AS": "000Y", "UR": "http://anonymous.invalid"}
_TIMES = ("DA", "TM", "DT")
_TEXT = ("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UT")
_NUMBERS = ("DS", "IS", "FD", "FL", "SS", "US", "SL", "UL", "SV", "UV")
_METHOD = (("113100", "Basic Application Confidentiality Profile"),)

Action = Callable[["Dataset", "DataElement"], None]


class Anonymiser:
    """De-identifies datasets; one object keeps one mapping of UIDs, which is made up and forgotten."""

    def __init__(self) -> None:
        try:
            from dicomanonymizer.dicomfields_selector import dicom_anonymization_database_selector
        except ModuleNotFoundError as error:
            raise SegkitError("--anonymise needs dicom-anonymizer; pip install 'segkit[dicom]'") from error
        table = dicom_anonymization_database_selector("dicomfields_2024b")
        actions: dict[str, Action] = {
            "D_TAGS": _replace,
            "Z_TAGS": _empty,
            "X_TAGS": _remove,
            "U_TAGS": self._map_uid,
            "Z_D_TAGS": _replace,
            "X_Z_TAGS": _empty,
            "X_D_TAGS": _replace,
            "X_Z_D_TAGS": _replace,
            "X_Z_U_STAR_TAGS": self._keep_sequence,
        }
        self._actions: dict[tuple[int, int], Action] = {}
        self._ranges: list[tuple[tuple[int, int, int, int], Action]] = []
        for name, action in actions.items():
            for tag in table[name]:
                if len(tag) == 2:
                    self._actions[tag] = action
                else:
                    self._ranges.append((tag, action))
        self._uids: dict[str, str] = {}

    def apply(self, dataset: Dataset) -> None:
        """Take the patient out of a dataset, in place, at every depth; and say so in it."""
        from pydicom.dataset import FileMetaDataset

        self._walk(dataset)
        # One made-up patient a study, so that an archive does not merge the studies of different patients.
        dataset.PatientID = "ANON" + str(dataset.get("StudyInstanceUID", ""))[-12:]
        meta = FileMetaDataset()  # the old one names the devices that sent the file
        meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
        dataset.file_meta = meta
        dataset.preamble = b"\0" * 128
        self.mark(dataset)

    def derive(self, dataset: Dataset) -> None:
        """Finish an object that was made from headers without a patient: no times, and the mark."""
        for element in dataset.iterall():
            if element.VR in _TIMES and element.value:
                element.value = _DUMMIES[element.VR]
        self.mark(dataset)

    def mark(self, dataset: Dataset) -> None:
        """Say in a dataset that and how the patient was taken out."""
        dataset.PatientIdentityRemoved = "YES"
        dataset.DeidentificationMethod = "Basic Application Confidentiality Profile, by segkit"
        dataset.DeidentificationMethodCodeSequence = [_code(*method) for method in _METHOD]
        dataset.LongitudinalTemporalInformationModified = "REMOVED"

    def uid(self, old: str) -> str:
        """The UID that stands for `old`."""
        from pydicom.uid import generate_uid

        return self._uids.setdefault(old, str(generate_uid(prefix=None)))

    def _walk(self, dataset: Dataset) -> None:
        from pydicom.datadict import dictionary_has_tag, repeater_has_tag

        for tag in list(dataset.keys()):
            if tag.is_private or not (dictionary_has_tag(tag) or repeater_has_tag(tag)):  # nobody knows what it says
                del dataset[tag]
                continue
            action = self._action(tag)
            try:
                element = dataset[tag]
            except Exception:  # a value that its type does not allow: nobody can read what it says
                del dataset[tag]
                continue
            if action is not None:
                action(dataset, element)
            if tag in dataset and element.VR == "SQ":
                for item in element.value:
                    self._walk(item)

    def _action(self, tag: Any) -> Action | None:
        found = self._actions.get((tag.group, tag.element))
        if found is not None:
            return found
        for (group, element, group_mask, element_mask), action in self._ranges:
            if tag.group & group_mask == group & group_mask and tag.element & element_mask == element & element_mask:
                return action
        return None

    def _map_uid(self, dataset: Dataset, element: DataElement) -> None:
        if element.VM > 1:
            element.value = [self.uid(str(one)) for one in element.value]
        elif element.value:
            element.value = self.uid(str(element.value))

    def _keep_sequence(self, dataset: Dataset, element: DataElement) -> None:
        """References to images: kept, because the UIDs within are replaced one by one."""
        if element.VR != "SQ":
            _remove(dataset, element)


def _remove(dataset: Dataset, element: DataElement) -> None:
    del dataset[element.tag]


def _empty(dataset: Dataset, element: DataElement) -> None:
    element.value = [] if element.VR == "SQ" else None


def _replace(dataset: Dataset, element: DataElement) -> None:
    """A value that says nothing but is allowed; where there is none for the type, nothing."""
    if element.VR in _DUMMIES:
        element.value = _DUMMIES[element.VR]
    elif element.VR in _TEXT:
        element.value = "ANONYMISED"
    elif element.VR in _NUMBERS:
        element.value = 0
    elif element.VR == "SQ":
        element.value = []
    else:
        del dataset[element.tag]


def _code(value: str, meaning: str) -> Dataset:
    from pydicom import Dataset

    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item
