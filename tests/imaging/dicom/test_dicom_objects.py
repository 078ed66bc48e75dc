"""What is written: segmentations and reports, read back by highdicom, by hand, and by dcmqi."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pytest
from dicom_series import PATIENT, write_series, write_study
from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.tag import Tag
from test_dicom_pixels import enhanced

from segkit import __version__
from segkit.errors import FileError
from segkit.imaging.dicom.anonymise import Anonymiser
from segkit.imaging.dicom.author import Author
from segkit.imaging.dicom.coding import coding_of
from segkit.imaging.dicom.copies import check_pixels, write_copies
from segkit.imaging.dicom.report import make_report
from segkit.imaging.dicom.segmentation import make_segmentation, source_headers, write_dataset
from segkit.imaging.dicom.volume import open_studies, read_study
from segkit.imaging.scan import Scan
from segkit.imaging.write import write_mask
from segkit.inference.postprocess import measure

CLASSES = ("background", "tumour", "oedema")
AUTHOR = Author("unet", "run-7", __version__)
READER = shutil.which("segimage2itkimage", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
OBLIQUE = (0.96, 0.28, 0.0, -0.224, 0.768, -0.6)  # two unit vectors at right angles


def scan_of(folder: Path) -> Scan:
    (study,), _ = open_studies([folder])
    return read_study(study, {}, ("flair",))[0]


def mask_of(scan: Scan) -> np.ndarray:
    mask = np.random.default_rng(1).integers(0, 3, scan.shape).astype(np.uint8)
    mask[0] = 0  # an empty slice has no frame
    return mask


def written(folder: Path, scan: Scan, mask: np.ndarray) -> Path:
    path = folder / "seg.dcm"
    write_dataset(path, make_segmentation(mask, scan, source_headers(scan), CLASSES, AUTHOR))
    return path


@pytest.fixture(params=["axial", "sagittal", "oblique", "missing"])
def scan(request: pytest.FixtureRequest, tmp_path: Path) -> Scan:
    voxels = np.random.default_rng(0).integers(0, 1000, (6, 10, 12)).astype(np.int16)
    orientation = {"sagittal": (0, 1, 0, 0, 0, -1), "oblique": OBLIQUE}.get(request.param, (1, 0, 0, 0, 1, 0))
    skip = (2,) if request.param == "missing" else ()
    write_series(tmp_path / "s", voxels, orientation=orientation, pixel=(0.5, 0.75), skip=skip)
    return scan_of(tmp_path / "s")


def by_hand(path: Path, scan: Scan) -> np.ndarray:
    """The mask `[source slice, row, column]` from the frames, their segments, and the images that they name."""
    dataset = dcmread(path)
    pixels = dataset.pixel_array
    pixels = pixels if pixels.ndim == 3 else pixels[None]
    uids = [frame.uid if frame else "" for frame in scan.dicom.slices]
    mask = np.zeros((len(uids), *pixels.shape[1:]), np.uint8)
    for plane, groups in zip(pixels, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        segment = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        (image,) = groups.DerivationImageSequence[0].SourceImageSequence
        at = uids.index(image.ReferencedSOPInstanceUID)
        frame = scan.dicom.slices[at]
        np.testing.assert_allclose(groups.PlanePositionSequence[0].ImagePositionPatient, frame.position, atol=1e-5)
        mask[at][plane > 0] = segment
    return mask


def test_a_segmentation_read_by_hand_has_the_mask_on_the_same_images(tmp_path: Path, scan: Scan) -> None:
    mask = mask_of(scan)
    kept = mask.copy()
    if None in scan.dicom.slices:
        kept[2] = 0  # there is no image that a mask of the missing slice could refer to
    expected = scan.nifti.to_file(kept).transpose(2, 1, 0)
    np.testing.assert_array_equal(by_hand(written(tmp_path, scan, mask), scan), expected)


def test_highdicom_reads_the_mask_in_the_same_places(tmp_path: Path, scan: Scan) -> None:
    mask = mask_of(scan)
    volume = highdicom.seg.segread(written(tmp_path, scan, mask)).get_volume(combine_segments=True)
    voxels = np.argwhere(volume.array > 0)
    to_patient = np.diag([-1, -1, 1, 1]) @ volume.affine
    back = np.linalg.inv(scan.display_affine) @ to_patient
    at = np.rint(nibabel.affines.apply_affine(back, voxels)).astype(int)
    assert np.abs(nibabel.affines.apply_affine(back, voxels) - at).max() < 1e-3
    np.testing.assert_array_equal(mask[tuple(at.T)], volume.array[tuple(voxels.T)])
    present = mask if None not in scan.dicom.slices else np.delete(mask, 2, 0)
    assert len(voxels) == np.count_nonzero(present)


@pytest.mark.skipif(READER is None, reason="dcmqi is not installed")
def test_dcmqi_reads_the_mask_in_the_same_places(tmp_path: Path, scan: Scan) -> None:
    mask = mask_of(scan)
    path = written(tmp_path, scan, mask)
    command = [READER, "--inputDICOM", path, "--outputDirectory", tmp_path, "--outputType", "nii"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    for number in (1, 2):
        image = nibabel.load(tmp_path / f"{number}.nii.gz")
        voxels = np.argwhere(np.asarray(image.dataobj) > 0)
        back = np.linalg.inv(scan.display_affine) @ image.affine
        at = np.rint(nibabel.affines.apply_affine(back, voxels)).astype(int)
        assert (mask[tuple(at.T)] == number).all()
        present = mask if None not in scan.dicom.slices else np.delete(mask, 2, 0)
        assert len(voxels) == np.count_nonzero(present == number)


def test_nifti_and_segmentation_are_in_one_place(tmp_path: Path, scan: Scan) -> None:
    mask = mask_of(scan)
    write_mask(tmp_path / "m.nii.gz", mask, scan, (0, 1, 2))
    image = nibabel.load(tmp_path / "m.nii.gz")
    np.testing.assert_allclose(image.affine, scan.affine, atol=1e-5)
    np.testing.assert_allclose(image.get_qform(), scan.affine, atol=1e-4)
    np.testing.assert_array_equal(np.asarray(image.dataobj), scan.nifti.to_file(mask))


def test_what_a_segmentation_says(tmp_path: Path) -> None:
    write_study(tmp_path / "study")
    (study,), _ = open_studies([tmp_path / "study"])
    scan, _ = read_study(study, {}, ("pre", "flair", "post"))
    source = source_headers(scan)[0]
    dataset = dcmread(written(tmp_path, scan, mask_of(scan)))
    for name in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName", "AccessionNumber"):
        assert dataset[name].value == source[name].value
    assert dataset.SeriesInstanceUID not in {stack.series_uid for stack in study.stacks}
    assert dataset.SeriesNumber == 10
    (reference,) = dataset.ReferencedSeriesSequence
    assert reference.SeriesInstanceUID == source.SeriesInstanceUID
    assert (dataset.Manufacturer, dataset.ManufacturerModelName) == ("segkit", "unet run-7")
    assert list(dataset.SoftwareVersions) == [f"segkit {__version__}", "model run-7"]
    tumour, oedema = dataset.SegmentSequence
    assert (tumour.SegmentLabel, tumour.SegmentAlgorithmType) == ("tumour", "AUTOMATIC")
    assert tumour.SegmentedPropertyTypeCodeSequence[0].CodeValue == "108369006"
    assert oedema.SegmentedPropertyTypeCodeSequence[0].CodeValue == "79654002"
    assert tumour.AnatomicRegionSequence[0].CodeValue == "12738006"
    algorithm = tumour.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("unet", "run-7")


def test_an_empty_mask_is_a_segmentation_too(tmp_path: Path) -> None:
    write_series(tmp_path / "s", np.zeros((3, 8, 8), np.int16))
    scan = scan_of(tmp_path / "s")
    dataset = dcmread(written(tmp_path, scan, np.zeros(scan.shape, np.uint8)))
    assert not dataset.pixel_array.any()
    assert len(dataset.SegmentSequence) == 2


def test_frames_of_an_enhanced_object_are_referred_to(tmp_path: Path) -> None:
    enhanced(tmp_path / "e.dcm", np.ones((3, 10, 12), np.uint16) * 50, [2, 0, 1])
    scan = scan_of(tmp_path / "e.dcm")
    mask = np.zeros(scan.shape, np.uint8)
    mask[2, 3:5, 4:9] = 1  # the topmost slice is frame 1 of the file
    dataset = dcmread(written(tmp_path, scan, mask))
    groups = dataset.PerFrameFunctionalGroupsSequence[0]
    assert groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber == 1
    np.testing.assert_allclose(groups.PlanePositionSequence[0].ImagePositionPatient, [0, 0, 4])
    np.testing.assert_array_equal(np.squeeze(dataset.pixel_array), mask[2])


def test_images_without_a_frame_of_reference_are_named(tmp_path: Path) -> None:
    for file in write_series(tmp_path / "s", np.zeros((3, 8, 8), np.int16)):
        dataset = dcmread(file)
        del dataset.FrameOfReferenceUID
        dataset.save_as(file)
    scan = scan_of(tmp_path / "s")
    with pytest.raises(FileError, match=r"series 1: has no frame of reference.*-o mask"):
        written(tmp_path, scan, np.zeros(scan.shape, np.uint8))


def test_the_report_has_the_measures(tmp_path: Path) -> None:
    write_series(tmp_path / "s", np.zeros((8, 20, 20), np.int16), gap=2.0)
    scan = scan_of(tmp_path / "s")
    mask = np.zeros(scan.shape, np.uint8)
    mask[1:5, 3:13, 3:8] = 1
    mask[6, 15:18, 15:18] = 1
    mask[6, 2, 2] = 2
    headers = source_headers(scan)
    segmentation = make_segmentation(mask, scan, headers, CLASSES, AUTHOR)
    measures = measure(mask, scan, CLASSES)
    write_dataset(tmp_path / "sr.dcm", make_report(segmentation, headers, measures, AUTHOR))
    report = highdicom.sr.srread(tmp_path / "sr.dcm")
    assert (report.StudyInstanceUID, report.VerificationFlag) == (headers[0].StudyInstanceUID, "UNVERIFIED")
    assert report.SeriesNumber == segmentation.SeriesNumber + 1
    groups = report.content.get_volumetric_roi_measurement_groups()
    assert [group.tracking_identifier for group in groups] == ["tumour (unet)", "oedema (unet)"]
    values = {m.name.meaning: m.value for m in groups[0].get_measurements()}
    assert values["Volume"] == pytest.approx((200 + 9) * 2 / 1000)
    assert values["Maximum 3D Diameter of a Mesh"] == pytest.approx(measures["tumour"]["longest_diameter_mm"])
    segment = groups[0].referenced_segment
    assert segment.referenced_sop_instance_uid == segmentation.SOPInstanceUID
    lesions = [g for g in report.content.get_image_measurement_groups() if "lesion" in g.tracking_identifier]
    assert [lesion.tracking_identifier for lesion in lesions] == [
        "tumour lesion 1",
        "tumour lesion 2",
        "oedema lesion 1",
    ]


def test_codes_by_names() -> None:
    assert coding_of("tumor").kind.meaning == "Neoplasm"
    assert coding_of("non-enhancing core").kind.meaning == "Non-Enhancing Lesion"
    assert coding_of("Anterior").region.meaning == "Hippocampus"
    own = coding_of("left widget")
    assert (own.kind.value, own.kind.scheme_designator) == ("LEFT_WIDGET", "99SEGKIT")


def words_of(path: Path) -> bytes:
    return path.read_bytes().lower()


def test_anonymised_files_have_no_patient_and_still_fit_together(tmp_path: Path) -> None:
    write_study(tmp_path / "study")
    for file in (tmp_path / "study").rglob("*.dcm"):
        dataset = dcmread(file)
        dataset.add_new(0x00091001, "LO", "Szabo private")
        dataset.OtherPatientIDs, dataset.InstitutionName = "ID-4711-X", "Szabo Hospital"
        dataset.file_meta.SourceApplicationEntityTitle = "SZABO"
        dataset.save_as(file)
    (study,), _ = open_studies([tmp_path / "study"])
    scan, _ = read_study(study, {}, ("pre", "flair", "post"))
    mask, anonymiser = mask_of(scan), Anonymiser()
    headers = source_headers(scan)
    for header in headers:
        anonymiser.apply(header)
    segmentation = make_segmentation(mask, scan, headers, CLASSES, AUTHOR)
    report = make_report(segmentation, headers, measure(mask, scan, CLASSES), AUTHOR)
    for name, dataset in (("seg", segmentation), ("sr", report)):
        anonymiser.derive(dataset)
        write_dataset(tmp_path / "out" / f"{name}.dcm", dataset)
    write_copies(tmp_path / "out" / "images", scan, anonymiser)

    files = sorted((tmp_path / "out").rglob("*.dcm"))
    assert len(files) == 2 + 3 * 4
    secrets = [b"szabo", b"ilona", b"id-4711", b"acc99", b"19510203", b"20200304", b"ref^doctor", study.uid.encode()]
    for file in files:
        assert not [secret for secret in secrets if secret in words_of(file)], file.name
        dataset = dcmread(file)
        assert dataset.PatientIdentityRemoved == "YES"
        assert dataset.DeidentificationMethodCodeSequence[0].CodeValue == "113100"
        assert str(dataset.get("PatientName", "")) == ""

    # The mask refers to the copies, which are the same pixels in the same place.
    seg = dcmread(tmp_path / "out" / "seg.dcm")
    copies = {
        dcmread(file).SOPInstanceUID: dcmread(file) for file in (tmp_path / "out" / "images" / "2-flair").iterdir()
    }
    referred = {item.ReferencedSOPInstanceUID for item in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence}
    assert referred == set(copies)
    assert {copy.StudyInstanceUID for copy in copies.values()} == {seg.StudyInstanceUID, report.StudyInstanceUID}
    assert {copy.PatientID for copy in copies.values()} == {seg.PatientID}
    again, _ = read_study(open_studies([tmp_path / "out" / "images" / "2-flair"])[0][0], {}, ("flair",))
    np.testing.assert_array_equal(again.pixels[..., 0], scan.pixels[..., 1])
    assert again.affine.tobytes() == scan.affine.tobytes()


def test_anonymising_reaches_every_depth_and_forgets(tmp_path: Path) -> None:
    (file,) = write_series(tmp_path / "s", np.zeros((1, 8, 8), np.int16))
    dataset, other = dcmread(file), dcmread(file)
    inner = dcmread(file)
    del inner.PixelData
    dataset.ReferencedImageSequence = [inner]
    Anonymiser().apply(dataset)
    Anonymiser().apply(other)
    assert (
        dataset.SOPInstanceUID
        == dataset.ReferencedImageSequence[0].SOPInstanceUID
        != inner.file_meta.MediaStorageSOPInstanceUID
    )
    assert not dataset.ReferencedImageSequence[0].PatientName
    assert dataset.SOPInstanceUID != other.SOPInstanceUID
    assert dataset.PatientID.startswith("ANON")
    assert dataset.PatientID not in (PATIENT["PatientID"], other.PatientID)


@pytest.mark.parametrize(("said", "note"), [("YES", None), ("NO", ""), ("", "do not say whether text is burned in")])
def test_burned_in_text_is_refused_or_named(tmp_path: Path, said: str, note: str | None) -> None:
    write_series(tmp_path / "s", np.zeros((2, 8, 8), np.int16), BurnedInAnnotation=said)
    if note is None:
        with pytest.raises(FileError, match="series 1: has text burned into its pixels"):
            check_pixels(scan_of(tmp_path / "s"))
    else:
        found = check_pixels(scan_of(tmp_path / "s"))
        assert note in found
        assert bool(note) == bool(found)


def test_the_profiles_attributes_as_gdcm_lists_them_are_gone_at_any_depth(tmp_path: Path) -> None:
    """An independent list: that of Grassroots DICOM, of an earlier edition of the standard."""
    gdcm = pytest.importorskip("gdcm")
    listed = gdcm.Anonymizer.GetBasicApplicationLevelConfidentialityProfileAttributes()
    tags = [Tag(int(tag.GetGroup()), int(tag.GetElement())) for tag in listed]
    assert len(tags) > 40
    values = {"DA": "19510203", "TM": "101112", "DT": "20200304101112", "AS": "069Y", "UI": "1.2.3.4", "DS": "77.5"}
    (file,) = write_series(tmp_path / "s", np.zeros((1, 8, 8), np.int16))
    dataset, inner = dcmread(file), Dataset()
    for tag in [*tags, Tag(0x00091010), Tag(0x00080F0F)]:  # a private one, and one that no dictionary knows
        kind = dictionary_VR(tag) if dictionary_has_tag(tag) else "LO"
        for home in (dataset, inner):
            item = Dataset()
            item.PatientComments = "Szabo"
            home.add_new(tag, kind, [item] if kind == "SQ" else values.get(kind, "Szabo"))
    dataset.SourceImageSequence = [inner]
    Anonymiser().apply(dataset)
    write_dataset(tmp_path / "out.dcm", dataset)
    content = (tmp_path / "out.dcm").read_bytes()
    assert not [value for value in ("Szabo", *values.values()) if value.encode() in content]
    assert len(dataset.SourceImageSequence) == 1  # references stay, with other UIDs


def test_copies_are_all_there_or_none(tmp_path: Path) -> None:
    files = write_series(tmp_path / "s", np.zeros((4, 8, 8), np.int16))
    scan = scan_of(tmp_path / "s")
    (tmp_path / "out" / "1-flair").mkdir(parents=True)
    (tmp_path / "out" / "1-flair" / "0009.dcm").touch()
    files[2].write_bytes(bytes(128) + b"DICM")
    with pytest.raises(FileError, match="series 1: has changed since it was read"):
        write_copies(tmp_path / "out", scan, Anonymiser())
    assert [path.name for path in (tmp_path / "out").rglob("*.dcm")] == ["0009.dcm"]
    write_series(tmp_path / "s", np.zeros((4, 8, 8), np.int16))
    write_copies(tmp_path / "out", scan_of(tmp_path / "s"), Anonymiser())
    names = sorted(path.name for path in (tmp_path / "out").rglob("*.dcm"))
    assert names == ["0001.dcm", "0002.dcm", "0003.dcm", "0004.dcm"]  # the old folder went as a whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "s"]
