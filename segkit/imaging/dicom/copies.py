"""The images of a scan without the patient, so that an anonymised mask still has what it refers to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from segkit.errors import FileError
from segkit.imaging.dicom.reading import DamagedError, NotDicomError, quiet, read_dataset
from segkit.imaging.dicom.segmentation import write_dataset
from segkit.imaging.scan import Scan

if TYPE_CHECKING:
    from segkit.imaging.dicom.anonymise import Anonymiser


def write_copies(folder: Path, scan: Scan, anonymiser: Anonymiser) -> None:
    """Write every image of every series that `scan` was made from, as `folder/1-flair/0001.dcm`.

    Raises:
        FileError: an image that is said to have the patient's name burned into its pixels; or nothing can be written.
    """
    if scan.dicom is None:
        raise ValueError("only a scan that was read from DICOM has images to copy")
    for place, (role, stack) in enumerate(scan.dicom.stacks, 1):
        members = dict.fromkeys(frame.member for frame in stack.present)
        for number, member in enumerate(members, 1):
            try:
                with quiet():
                    dataset = read_dataset(member, pixels=True)
                    if str(dataset.get("BurnedInAnnotation", "")).upper() == "YES":
                        raise FileError(
                            Path(stack.name), "has text burned into its pixels, which --anonymise does not remove"
                        )
                    anonymiser.apply(dataset)
            except (DamagedError, NotDicomError) as error:
                raise FileError(Path(stack.name), f"has changed since it was read ({error})") from error
            write_dataset(folder / f"{place}-{role}" / f"{number:04}.dcm", dataset)
