"""pydicom as this package wants it: silent, lenient, and every failure an error without the file's values."""

from __future__ import annotations

import contextlib
import logging
import math
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from segkit.errors import SegkitError
from segkit.imaging.dicom.files import Member

if TYPE_CHECKING:
    from pydicom import Dataset

_NEEDED = ("pydicom", "highdicom")

for _library in ("pydicom", "highdicom"):  # they log values of files; handlers of the program still get them
    logging.getLogger(_library).addHandler(logging.NullHandler())


class NotDicomError(Exception):
    """The file is something else."""


class DamagedError(Exception):
    """The file is DICOM, but cannot be used. The text holds no value of the file's."""


def require_packages() -> None:
    """Raise SegkitError where the packages of the extra `dicom` are not installed."""
    for name in _NEEDED:
        if find_spec(name) is None:
            raise SegkitError(f"DICOM needs the package {name}; pip install 'segkit[dicom]'")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Let pydicom accept what scanners write against the standard, and keep its warnings, which hold values, back."""
    from pydicom import config

    before = config.settings.reading_validation_mode
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config.settings.reading_validation_mode = config.IGNORE
        try:
            yield
        finally:
            config.settings.reading_validation_mode = before


def read_dataset(member: Member, *, pixels: bool, only: list[str] | None = None) -> Dataset:
    """Read a file, with or without its pixel data; `only` names the attributes to keep.

    A missing preamble or meta header is made up for.

    Raises:
        NotDicomError: something else.
        DamagedError: it breaks off, or cannot be parsed.
        FileError: it cannot be opened.
    """
    from pydicom import dcmread

    with quiet(), member.open() as file:
        try:
            dataset = dcmread(file, stop_before_pixels=not pixels, force=True, specific_tags=only)
            if not any(key in dataset for key in ("SOPClassUID", "SOPInstanceUID", "Rows", "StudyInstanceUID")):
                raise NotDicomError
            _complete_meta(dataset)
        except NotDicomError:
            raise
        except MemoryError:
            raise DamagedError("claims more than fits into memory") from None
        except Exception as error:  # pydicom has no common base for what a damaged file makes it raise
            if b"DICM" not in member.head()[:132]:
                raise NotDicomError from error
            raise DamagedError(f"is damaged ({type(error).__name__})") from error
    return dataset


def value(dataset: Any, name: str, default: Any = None) -> Any:
    """An attribute, or `default` where it is absent, empty, or cannot be parsed."""
    try:
        with quiet():
            found = dataset.get(name)
    except Exception:  # a value that its VR does not allow
        return default
    return default if found is None or found == "" or (hasattr(found, "__len__") and not len(found)) else found


def number(dataset: Any, name: str) -> float | None:
    """An attribute as a finite number; the first of several; None where there is none."""
    found = value(dataset, name)
    if found is None:
        return None
    if not isinstance(found, (str, int, float)):
        with contextlib.suppress(TypeError, IndexError):
            found = found[0]
    try:
        result = float(found)
    except (TypeError, ValueError, OverflowError):
        return None
    return result if math.isfinite(result) else None


def _complete_meta(dataset: Dataset) -> None:
    """The transfer syntax that a file without meta header was found to have."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if not hasattr(dataset, "file_meta"):
        dataset.file_meta = FileMetaDataset()
    if "TransferSyntaxUID" in dataset.file_meta:
        return
    implicit, little = dataset.original_encoding
    explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
