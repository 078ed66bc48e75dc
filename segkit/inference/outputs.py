"""Everything that is written for one segmented scan, and the line that says so."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segkit import __version__
from segkit.imaging.marks import MARK
from segkit.imaging.naming import stem_of
from segkit.imaging.scan import Scan
from segkit.inference.postprocess import measure
from segkit.inference.segmenter import Model, Segmentation

if TYPE_CHECKING:
    from segkit.imaging.dicom.anonymise import Anonymiser


@dataclass(frozen=True)
class Wanted:
    """What to write beside the mask, and what to do to the mask before.

    Attributes:
        overlay, json, report: pictures; the table of measures; a DICOM structured report.
        anonymise: take the patient out of DICOM objects, and write the images without the patient too.
        largest: keep the largest component of each class only.
        force: overwrite files that segkit wrote.
    """

    overlay: bool = False
    json: bool = False
    report: bool = False
    anonymise: bool = False
    largest: bool = False
    force: bool = False


@dataclass(frozen=True)
class Targets:
    """The files of one scan; None for what is not wanted."""

    mask: Path | None
    segmentation: Path | None = None
    report: Path | None = None
    overlay: Path | None = None
    planes: Path | None = None
    measures: Path | None = None
    images: Path | None = None  # a folder

    def files(self) -> list[Path]:
        """Everything that is wanted."""
        return [path for path in vars(self).values() if path is not None]


def targets_beside(
    mask: Path, wanted: Wanted, *, dicom: bool = False, place: bool = False, named: bool = False
) -> Targets:
    """The files that go with a mask of this name; `place` where the scan has a spacing, so that planes can be drawn.

    Of a DICOM study the mask is written as a segmentation and as NIfTI, unless the user `named` the one to write.
    """
    stem = stem_of(mask).removesuffix("_mask")
    beside = {
        "overlay": mask.with_name(f"{stem}_overlay.png") if wanted.overlay else None,
        "planes": mask.with_name(f"{stem}_planes.png") if wanted.overlay and place else None,
        "measures": mask.with_name(f"{stem_of(mask)}.json") if wanted.json else None,
    }
    if not dicom:
        return Targets(mask, **beside)
    is_object = mask.suffix.lower() == ".dcm"
    stem = stem.removesuffix("_seg")
    return Targets(
        None if is_object else mask,
        segmentation=mask if is_object else mask.with_name(f"{stem}_seg.dcm") if not named or wanted.report else None,
        report=mask.with_name(f"{stem}_sr.dcm") if wanted.report else None,
        images=mask.with_name(f"{stem}_images") if wanted.anonymise else None,
        **beside,
    )


def write_all(
    targets: Targets, sources: list[str], scan: Scan, result: Segmentation, model: Model, wanted: Wanted
) -> None:
    """Write every target. Raises FileError where one cannot be written."""
    from segkit.imaging.write import write_mask

    classes = model.metadata.classes
    measures = None
    if targets.measures is not None or targets.report is not None:
        measures = measure(result.mask, scan, classes)
    anonymiser = _anonymiser(wanted)
    made = _dicom_objects(targets, scan, result, model, measures, anonymiser)  # first, because it may be refused
    if targets.images is not None and anonymiser is not None:
        from segkit.imaging.dicom.copies import write_copies

        write_copies(targets.images, scan, anonymiser)
    if targets.mask is not None:
        write_mask(targets.mask, result.mask, scan, model.metadata.mask_values)
    for path, dataset in made:
        from segkit.imaging.dicom.segmentation import write_dataset

        write_dataset(path, dataset)
    _write_pictures(targets, scan, result, classes)
    if targets.measures is not None:
        _write_measures(targets, sources, scan, result, model, measures, anonymiser)


def summary(targets: Targets, scan: Scan, result: Segmentation, classes: tuple[str, ...]) -> str:
    """`scan_mask.nii.gz: 176 x 188 x 144, tumour 12.3 ml in 31 slices`, and what there is to note."""
    slices, height, width = scan.shape
    size = f"{width} x {height}" + (f" x {slices}" if slices > 1 else "")
    parts = [_amount(name, result.mask == index, scan) for index, name in enumerate(classes) if index]
    written = ", ".join(str(path) for path in (targets.mask, targets.segmentation) if path is not None)
    return "; ".join([f"{written}: {size}, {', '.join(parts)}", *result.notes])


def _amount(name: str, voxels: NDArray[np.bool_], scan: Scan) -> str:
    slices, pixels = int(voxels.any(axis=(1, 2)).sum()), int(voxels.sum())
    where = f" in {slices} slices" if scan.shape[0] > 1 else ""
    if scan.spacing is None or scan.voxel_mm3 is None:
        return f"{name} {pixels} px{where}"
    if scan.shape[0] == 1:
        return f"{name} {pixels * scan.spacing[1] * scan.spacing[2]:.0f} mm2"
    return f"{name} {pixels * scan.voxel_mm3 / 1000:.2f} ml{where}"


def _anonymiser(wanted: Wanted) -> Anonymiser | None:
    if not wanted.anonymise:
        return None
    from segkit.imaging.dicom.anonymise import Anonymiser

    return Anonymiser()


def _dicom_objects(
    targets: Targets, scan: Scan, result: Segmentation, model: Model, measures: Any, anonymiser: Anonymiser | None
) -> list[tuple[Path, Any]]:
    """The segmentation and the report that refers to it, as far as they are wanted."""
    if targets.segmentation is None and targets.report is None:
        return []
    from segkit.imaging.dicom.author import Author
    from segkit.imaging.dicom.segmentation import make_segmentation, source_headers

    headers = source_headers(scan)
    if anonymiser is not None:
        for header in headers:
            anonymiser.apply(header)
    author = Author.of(model.metadata)
    segmentation = make_segmentation(result.mask, scan, headers, model.metadata.classes, author)
    made = [(targets.segmentation, segmentation)]
    if targets.report is not None:
        from segkit.imaging.dicom.report import make_report

        made.append((targets.report, make_report(segmentation, headers, measures, author)))
    if anonymiser is not None:
        for _, dataset in made:
            anonymiser.derive(dataset)
    return [(path, dataset) for path, dataset in made if path is not None]


def _write_pictures(targets: Targets, scan: Scan, result: Segmentation, classes: tuple[str, ...]) -> None:
    image = result.image
    if scan.dicom is not None and "flair" in scan.channels:  # the sequence that a reader looks for lesions on
        at = scan.channels.index("flair")
        image = image[..., at : at + 1]
    if targets.overlay is not None:
        from segkit.imaging.overlay import write_overlay

        write_overlay(targets.overlay, image, result.mask, classes, spacing=scan.spacing)
    if targets.planes is not None and scan.spacing is not None:
        from segkit.imaging.overlay import write_planes

        write_planes(targets.planes, image, result.mask, classes, scan.spacing)


def _write_measures(
    targets: Targets,
    sources: list[str],
    scan: Scan,
    result: Segmentation,
    model: Model,
    measures: Any,
    anonymiser: Anonymiser | None,
) -> None:
    from segkit.files import write_json

    assert targets.measures is not None  # the caller looked
    mask = targets.mask or targets.segmentation
    assert mask is not None  # there is always one
    content = {
        MARK: __version__,
        "scan": sources,
        "mask": str(mask) if scan.dicom is None else mask.name,  # a folder may have a patient's name
        "model": str(model.path),
        "run_id": model.metadata.run_id,
        "device": model.device,
        "shape": list(scan.shape),
        "spacing_mm": scan.spacing and list(scan.spacing),
        "plane": result.plane,
        "rule": result.rule.as_metadata(),
        "classes": measures,
    }
    if scan.dicom is not None:
        uid = anonymiser.uid if anonymiser is not None else str
        content["study_uid"] = uid(scan.dicom.study_uid)
        content["series"] = [
            {"channel": role, "uid": uid(series), "number": number} for role, series, number in scan.dicom.series
        ]
    write_json(targets.measures, content)
