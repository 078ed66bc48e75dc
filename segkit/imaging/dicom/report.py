"""The measures of a segmentation as a DICOM structured report (TID 1500)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from segkit.errors import SegkitError
from segkit.imaging.dicom.author import MANUFACTURER, Author
from segkit.imaging.dicom.coding import coding_of
from segkit.imaging.dicom.reading import quiet
from segkit.imaging.dicom.segmentation import UNFIT

if TYPE_CHECKING:
    from pydicom import Dataset


def make_report(
    segmentation: Dataset, headers: Sequence[Dataset], measures: Mapping[str, Any], author: Author
) -> Dataset:
    """A Comprehensive 3D SR: for each segment its volume and longest diameters, for each lesion its own.

    `measures` is what `inference.postprocess.measure` gives; `headers` are the images of the segmentation. The
    report is complete but not verified: nobody has looked at it.

    Raises:
        SegkitError: the images lack what a report must repeat.
    """
    import highdicom
    from highdicom import sr
    from pydicom.sr.codedict import codes

    device = sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=highdicom.UID(), manufacturer_name=MANUFACTURER, model_name=author.model[:64]
        ),
    )
    series_uid = str(headers[0].SeriesInstanceUID)
    groups = [
        group
        for item in segmentation.SegmentSequence
        for group in _groups(segmentation, item, series_uid, measures[item.SegmentLabel], author)
    ]
    with quiet():
        content = sr.MeasurementReport(
            observation_context=sr.ObservationContext(observer_device_context=device),
            procedure_reported=codes.LN.MRIUnspecifiedBodyRegion,
            imaging_measurements=groups,
            title=codes.DCM.ImagingMeasurementReport,
        )
        try:
            report: Dataset = sr.Comprehensive3DSR(
                evidence=[segmentation, *headers],
                content=content[0],
                series_instance_uid=highdicom.UID(),
                series_number=int(segmentation.SeriesNumber) + 1,
                sop_instance_uid=highdicom.UID(),
                instance_number=1,
                manufacturer=MANUFACTURER,
                is_complete=True,
            )
        except UNFIT as error:
            what = f"the images lack what a report must repeat ({type(error).__name__})"
            raise SegkitError(f"{what}; leave --sr out") from error
    report.ManufacturerModelName = segmentation.ManufacturerModelName
    report.SoftwareVersions = segmentation.SoftwareVersions
    report.SeriesDescription = f"segkit {author.model}, measures"[:64]
    return report


def _groups(
    segmentation: Dataset, item: Dataset, series_uid: str, measures: Mapping[str, Any], author: Author
) -> list[Any]:
    """The measurement group of a segment, then one for each of its lesions."""
    import highdicom
    from highdicom import sr

    coding = coding_of(item.SegmentLabel)
    algorithm = sr.AlgorithmIdentification(name=author.model[:64], version=author.version[:64])
    sites = [sr.FindingSite(anatomic_location=coding.region)] if "AnatomicRegionSequence" in item else None
    whole = sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=item.TrackingUID, identifier=item.TrackingID),
        referenced_segment=sr.ReferencedSegment(
            segmentation.SOPClassUID,
            segmentation.SOPInstanceUID,
            int(item.SegmentNumber),
            source_series=sr.SourceSeriesForSegmentation(series_uid),
        ),
        finding_type=coding.kind,
        algorithm_id=algorithm,
        finding_sites=sites,
        measurements=_measurements(measures),
    )
    lesions = [
        sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=sr.TrackingIdentifier(
                uid=highdicom.UID(), identifier=f"{item.SegmentLabel} lesion {rank}"
            ),
            finding_type=coding.kind,
            algorithm_id=algorithm,
            finding_sites=sites,
            measurements=_measurements(lesion),
        )
        for rank, lesion in enumerate(measures["lesions"], 1)
    ]
    return [whole, *lesions]


def _measurements(measures: Mapping[str, Any]) -> list[Any]:
    from highdicom import sr
    from pydicom.sr.codedict import codes
    from pydicom.sr.coding import Code

    millimetre = codes.UCUM.Millimeter
    known = (
        ("ml", codes.SCT.Volume, Code("mL", "UCUM", "milliliter")),
        ("longest_diameter_mm", Code("L0JK", "IBSI", "Maximum 3D Diameter of a Mesh"), millimetre),
        ("longest_diameter_in_slice_mm", codes.SCT.LongAxis, millimetre),
    )
    return [
        sr.Measurement(name=name, value=float(measures[key]), unit=unit)
        for key, name, unit in known
        if measures.get(key) is not None
    ]
