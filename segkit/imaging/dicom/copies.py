"""The images of a scan without the patient, so that an anonymised mask still has what it refers to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from segkit.errors import FileError
from segkit.files import atomic_folder
from segkit.imaging.dicom.reading import DamagedError, NotDicomError, quiet, read_dataset, value
from segkit.imaging.dicom.segmentation import write_dataset
from segkit.imaging.scan import Scan

if TYPE_CHECKING:
    from segkit.imaging.dicom.anonymise import Anonymiser
    from segkit.imaging.dicom.files import Member
    from segkit.imaging.dicom.stacks import Stack


def check_pixels(scan: Scan) -> str:
    """What is to say of pixels that are copied as they are; "" where every image says that nothing is burned in.

    Raises:
        FileError: images that are said to have text burned into their pixels.
    """
    said = {
        str(value(frame.header, "BurnedInAnnotation", "")).upper(): stack
        for _, stack in _stacks(scan)
        for frame in stack.present
    }
    if "YES" in said:
        what = "has text burned into its pixels, which --anonymise does not remove"
        raise FileError(Path(said["YES"].name), what, "choose another series, or segment without --anonymise")
    if set(said) <= {"NO"}:
        return ""
    return "--anonymise leaves the pixels as they are, and the images do not say whether text is burned into them"


def write_copies(folder: Path, scan: Scan, anonymiser: Anonymiser) -> None:
    """Write every image of every series that `scan` was made from, as `folder/1-flair/0001.dcm`: all or none.

    Raises:
        FileError: an image cannot be read again, or nothing can be written.
    """
    with atomic_folder(folder) as temporary:
        for place, (role, stack) in enumerate(_stacks(scan), 1):
            members = dict.fromkeys(frame.member for frame in stack.present)
            for number, member in enumerate(members, 1):
                try:
                    _copy(member, temporary / f"{place}-{role}" / f"{number:04}.dcm", anonymiser)
                except (DamagedError, NotDicomError) as error:
                    raise FileError(Path(stack.name), f"has changed since it was read ({error})") from error
                except FileError as error:
                    raise FileError(Path(stack.name), f"image {number} {error.reason}") from error


def _copy(member: Member, target: Path, anonymiser: Anonymiser) -> None:
    with quiet():
        dataset = read_dataset(member, pixels=True)
        anonymiser.apply(dataset)
    write_dataset(target, dataset)


def _stacks(scan: Scan) -> tuple[tuple[str, Stack], ...]:
    if scan.dicom is None:
        raise ValueError("only a scan that was read from DICOM has images to copy")
    return scan.dicom.stacks
