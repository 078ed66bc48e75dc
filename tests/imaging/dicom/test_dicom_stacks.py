from __future__ import annotations

import gzip
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from dicom_series import AXIAL, write_series, write_study
from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from segkit.errors import FileError, SegkitError
from segkit.imaging.dicom.anonymise import Anonymiser
from segkit.imaging.dicom.copies import write_copies
from segkit.imaging.dicom.files import find_members, holds_dicom
from segkit.imaging.dicom.volume import open_studies, read_stack, read_study
from segkit.imaging.read import read_scan

VOXELS = np.random.default_rng(0).integers(0, 1000, (6, 5, 7)).astype(np.int16)


def stack_of(*paths: Path):
    (study,), _ = open_studies(list(paths))
    (stack,) = study.stacks
    return stack


def test_slices_are_sorted_by_place(tmp_path: Path) -> None:
    write_series(tmp_path / "s", VOXELS)
    scan = read_stack(stack_of(tmp_path / "s"))
    np.testing.assert_array_equal(scan.pixels[..., 0], VOXELS)  # axial slices, from the feet up, as written
    assert scan.spacing == pytest.approx((3, 1, 1))
    np.testing.assert_allclose(scan.affine, [[-1, 0, 0, 10], [0, -1, 0, 20], [0, 0, 3, 30], [0, 0, 0, 1]])


def test_any_nesting_zip_gzip_and_single_files_are_the_same(tmp_path: Path) -> None:
    files = write_series(tmp_path / "s", VOXELS)
    for index, file in enumerate(files):
        home = tmp_path / "nested" / ("a/b/c" if index % 2 else "d")
        home.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, home / f"{index}")  # without a suffix
    (tmp_path / "nested" / "notes.txt").write_text("none of it")
    with zipfile.ZipFile(tmp_path / "s.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file, f"x/{file.name}")
    (tmp_path / "packed").mkdir()
    for file in files:
        (tmp_path / "packed" / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
    for source in ([tmp_path / "nested"], [tmp_path / "s.zip"], [tmp_path / "packed"], files, [*files, tmp_path / "s"]):
        np.testing.assert_array_equal(read_stack(stack_of(*source)).pixels[..., 0], VOXELS)
        if source[0].is_dir() or len(source) == 1:
            np.testing.assert_array_equal(read_scan(source[0]).pixels[..., 0], VOXELS)
    assert len(find_members([*files, tmp_path / "s"])) == len(files)
    assert holds_dicom(tmp_path / "nested")
    assert holds_dicom(tmp_path / "s.zip")


def test_series_are_told_apart_by_uid(tmp_path: Path) -> None:
    write_study(tmp_path / "study")
    flat = tmp_path / "flat"
    flat.mkdir()
    for number, file in enumerate(sorted((tmp_path / "study").rglob("*.dcm"))):
        shutil.copy(file, flat / f"{number}.dcm")
    (study,), _ = open_studies([flat])
    assert [(stack.series_number, len(stack.frames)) for stack in study.stacks] == [(3, 4), (4, 4), (5, 4), (9, 4)]


def test_two_studies_are_two(tmp_path: Path) -> None:
    write_series(tmp_path / "a", VOXELS, study="1.2.3")
    write_series(tmp_path / "b", VOXELS, study="1.2.4")
    assert len(open_studies([tmp_path])[0]) == 2
    with pytest.raises(FileError, match="holds 2 studies"):
        read_scan(tmp_path / "zipped.zip" if zipped(tmp_path) else tmp_path)


def zipped(folder: Path) -> bool:
    with zipfile.ZipFile(folder / "zipped.zip", "w") as archive:
        for file in folder.glob("?/*.dcm"):
            archive.write(file)
    return True


def test_missing_slices_are_named_and_filled(tmp_path: Path) -> None:
    write_series(tmp_path / "s", VOXELS, skip=(2,))
    stack = stack_of(tmp_path / "s")
    assert stack.notes == ("1 slice is missing, between instances 2 and 4; empty ones stand in",)
    scan = read_stack(stack)
    assert scan.shape == VOXELS.shape
    assert np.isnan(scan.pixels[2]).all()
    np.testing.assert_array_equal(np.delete(scan.pixels[..., 0], 2, 0), np.delete(VOXELS, 2, 0))
    assert scan.spacing == pytest.approx((3, 1, 1))


def test_duplicates_are_named_and_left_out(tmp_path: Path) -> None:
    write_series(tmp_path / "s", VOXELS)
    twin = dcmread(next((tmp_path / "s").glob("*.dcm")))
    twin.SOPInstanceUID = twin.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    twin.InstanceNumber = 77
    twin.save_as(tmp_path / "s" / "twin.dcm")
    stack = stack_of(tmp_path / "s")
    assert stack.notes == ("1 slice lies where another does and is left out (instance 77)",)
    np.testing.assert_array_equal(read_stack(stack).pixels[..., 0], VOXELS)


def test_uneven_slices_are_refused(tmp_path: Path) -> None:
    files = write_series(tmp_path / "s", VOXELS)
    moved = dcmread(files[3])
    moved.ImagePositionPatient[2] += 1.4
    moved.save_as(files[3])
    stack = stack_of(tmp_path / "s")
    assert "uneven distances (1.60 to 4.40 mm)" in stack.fault
    with pytest.raises(FileError, match="series 1: has slices at uneven distances"):
        read_stack(stack)


def test_a_series_of_several_directions_sizes_or_echoes_is_several_stacks(tmp_path: Path) -> None:
    write_series(tmp_path / "a", VOXELS)
    write_series(tmp_path / "b", VOXELS, orientation=(0, 1, 0, 0, 0, -1))
    write_series(tmp_path / "c", VOXELS[:, :4])
    write_series(tmp_path / "d", VOXELS + 1, EchoTime=33)
    (study,), _ = open_studies([tmp_path])
    assert [(stack.part, stack.parts, len(stack.frames)) for stack in study.stacks] == [(n, 4, 6) for n in (1, 2, 3, 4)]
    assert study.stacks[1].name == "series 1 (part 2 of 4)"
    assert sorted(int(read_stack(stack).pixels.sum()) for stack in study.stacks) == sorted(
        int(voxels.sum()) for voxels in (VOXELS, VOXELS, VOXELS[:, :4], VOXELS + 1)
    )


def test_slices_that_do_not_fit_the_others_are_named(tmp_path: Path) -> None:
    write_series(tmp_path / "a", VOXELS, number=4)
    write_series(tmp_path / "b", VOXELS[:2, :4], number=4)
    write_series(tmp_path / "c", VOXELS[:1], number=4, orientation=(0, 1, 0, 0, 0, -1))
    write_series(tmp_path / "d", VOXELS[:1], number=4, pixel=(2, 2), origin=(0, 0, 90))
    (study,), _ = open_studies([tmp_path])
    scan = read_stack(study.stacks[0])
    np.testing.assert_array_equal(scan.pixels[..., 0], VOXELS)
    (note,) = scan.notes
    assert note.startswith("series 4 (part 1 of 4): instances ")
    assert {"1, 2 (7 x 4)", "1 (of another direction)", "1 (of another pixel size)"} <= set(
        note.removeprefix("series 4 (part 1 of 4): instances ")
        .removesuffix(" are not of this volume and left out")
        .replace("), ", ")|")
        .split("|")
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]}, "Siemens mosaic"),
        ({"SamplesPerPixel": 3}, "colour picture"),
        ({"NumberOfFrames": 6}, "6 frames without a place"),
        ({"Modality": "SR"}, "1 file without an image"),
    ],
)
def test_what_is_no_slice_is_named(tmp_path: Path, change: dict, reason: str) -> None:
    write_series(tmp_path / "s", VOXELS[:1], **change)
    with pytest.raises(FileError, match=f"no DICOM image that can be used .*{reason}"):
        read_scan(next((tmp_path / "s").glob("*.dcm")))


@pytest.mark.parametrize("change", [{"ImagePositionPatient": None}, {"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}])
def test_a_series_without_a_place_is_refused(tmp_path: Path, change: dict) -> None:
    files = write_series(tmp_path / "s", VOXELS)
    for file in files:
        dataset = dcmread(file)
        for name, value in change.items():
            setattr(dataset, name, value)
        dataset.save_as(file)
    with pytest.raises(SegkitError, match="series 1 says not where in the patient it lies"):
        read_scan(files[0])


def test_a_tilted_gantry_keeps_its_shear(tmp_path: Path) -> None:
    files = write_series(tmp_path / "s", VOXELS, orientation=AXIAL)
    for index, file in enumerate(files):
        dataset = dcmread(file)
        dataset.ImagePositionPatient[1] += 0.7 * index
        dataset.save_as(file)
    affine = read_stack(stack_of(tmp_path / "s")).affine
    np.testing.assert_allclose(affine[:3, 2], [0, -0.7, 3])


def test_a_damaged_archive_and_an_absent_path(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(FileError, match="damaged zip"):
        read_scan(tmp_path / "a.zip")
    with pytest.raises(FileError, match="does not exist"):
        find_members([tmp_path / "absent"])


@pytest.mark.parametrize("text", [b"nan ", b"inf ", b"1e400 ", b"Szabo "])
def test_numbers_that_are_none_are_left_out(tmp_path: Path, text: bytes) -> None:
    for file in write_series(tmp_path / "s", VOXELS, BurnedInAnnotation="NO"):
        dataset = dcmread(file)
        for name in ("SeriesNumber", "InstanceNumber", "EchoNumbers", "AcquisitionNumber"):
            tag = Tag(name)
            dataset[tag] = RawDataElement(tag, "IS", len(text), text, 0, False, True, True)
        dataset.save_as(file)
    scan, _ = read_study(open_studies([tmp_path / "s"])[0][0], {}, ("flair",))
    np.testing.assert_array_equal(scan.pixels[..., 0], VOXELS)
    assert scan.source == Path("the series without a number")
    write_copies(tmp_path / "out", scan, Anonymiser())
    assert len(list((tmp_path / "out").rglob("*.dcm"))) == len(VOXELS)


def test_a_header_that_breaks_off_is_damage(tmp_path: Path) -> None:
    files = write_series(tmp_path / "s", VOXELS)
    content = files[3].read_bytes()
    files[3].write_bytes(content[: content.index(b"Szabo")])
    (study,), notes = open_studies([tmp_path / "s"])
    assert notes == ["1 file: is damaged: it ends before its pixels"]
    assert study.stacks[0].notes == ("1 slice is missing, between instances 3 and 5; empty ones stand in",)


def test_more_archives_than_can_be_open_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segkit.imaging.dicom.files._MAX_ARCHIVES", 2)
    for index, file in enumerate(write_series(tmp_path / "s", VOXELS[:3])):
        with zipfile.ZipFile(tmp_path / f"{index}.zip", "w") as archive:
            archive.write(file, "a.dcm")
    assert len(find_members([tmp_path / "0.zip", tmp_path / "1.zip"])) == 2
    with pytest.raises(FileError, match="more than 2 zip archives; unpack them"):
        find_members([tmp_path])


def test_no_value_of_the_file_is_in_a_message(tmp_path: Path) -> None:
    files = write_series(tmp_path / "s", VOXELS, names="Szabo_Ilona_{}.dcm")
    for file in files[:2]:
        file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(FileError) as caught:
        read_stack(stack_of(tmp_path / "s"))
    text = str(caught.value)
    assert text.startswith("series 1: instance 1 cannot be unpacked (Explicit VR Little Endian")
    assert "zabo" not in text
