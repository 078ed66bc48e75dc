from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
import pydicom.data
import pytest
from dicom_series import set_pixels, write_series
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels import get_decoder
from pydicom.sequence import Sequence
from pydicom.uid import UID, JPEG2000Lossless, JPEGLSLossless, RLELossless

from segkit.errors import FileError
from segkit.imaging.dicom.volume import open_studies, read_stack
from segkit.imaging.read import read_scan
from segkit.imaging.window import scan_to_uint8

VOXELS = np.random.default_rng(0).integers(0, 1000, (3, 40, 50)).astype(np.uint16)


def read(*paths: Path) -> np.ndarray:
    (study,), _ = open_studies(list(paths))
    (stack,) = study.stacks
    return read_stack(stack).pixels[..., 0]


def changed(folder: Path, voxels: np.ndarray = VOXELS, **attributes: Any) -> np.ndarray:
    write_series(folder, voxels, **attributes)
    return read(folder)


def test_stored_types_stay(tmp_path: Path) -> None:
    for dtype in ("u1", "i2", "u2"):
        got = changed(tmp_path / dtype, (VOXELS % 200).astype(dtype))
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, VOXELS % 200)


def test_slope_and_intercept(tmp_path: Path) -> None:
    got = changed(tmp_path, RescaleSlope="2.5", RescaleIntercept="-100")
    np.testing.assert_allclose(got, VOXELS * 2.5 - 100)


def test_a_slope_of_its_own_for_each_slice(tmp_path: Path) -> None:
    files = write_series(tmp_path, VOXELS)
    for index, file in enumerate(files):
        dataset = dcmread(file)
        dataset.RescaleSlope, dataset.RescaleIntercept = index + 1, 7
        dataset.save_as(file)
    np.testing.assert_allclose(read(tmp_path), VOXELS * np.arange(1, 4)[:, None, None] + 7.0)


@pytest.mark.parametrize(("dtype", "top"), [("u2", 2**16 - 1), ("i2", -1), ("u1", 255)])
def test_monochrome1_is_turned_over(tmp_path: Path, dtype: str, top: int) -> None:
    stored = (VOXELS % 200).astype(dtype)
    files = write_series(tmp_path, stored)
    for file in files:
        dataset = dcmread(file)
        dataset.PhotometricInterpretation = "MONOCHROME1"
        dataset.save_as(file)
    np.testing.assert_array_equal(read(tmp_path), top - stored.astype(int))


def test_padding_is_no_intensity(tmp_path: Path) -> None:
    stored = VOXELS.astype(np.int16)
    stored[:, :10] = -2000
    got = changed(tmp_path, stored, PixelPaddingValue=-2000)
    assert np.isnan(got[:, :10]).all()
    np.testing.assert_array_equal(got[:, 10:], stored[:, 10:])


def test_a_range_of_padding(tmp_path: Path) -> None:
    got = changed(tmp_path, PixelPaddingValue=10, PixelPaddingRangeLimit=20)
    np.testing.assert_array_equal(np.isnan(got), (VOXELS >= 10) & (VOXELS <= 20))


def test_padding_does_not_move_the_window(tmp_path: Path) -> None:
    plain = scan_to_uint8(read_scan_of(tmp_path / "a", VOXELS))
    wide = np.pad(VOXELS, ((2, 2), (30, 30), (9, 9)), constant_values=5000)
    padded = scan_to_uint8(read_scan_of(tmp_path / "b", wide, PixelPaddingValue=5000))
    np.testing.assert_array_equal(padded[2:-2, 30:-30, 9:-9], plain)
    assert not padded[:2].any()


def read_scan_of(folder: Path, voxels: np.ndarray, **attributes: Any):
    write_series(folder, voxels, **attributes)
    (study,), _ = open_studies([folder])
    return read_stack(study.stacks[0])


def test_bits_above_those_stored_are_no_intensity(tmp_path: Path) -> None:
    files = write_series(tmp_path, VOXELS | 0x4000)  # an overlay in bit 14
    for file in files:
        dataset = dcmread(file)
        dataset.BitsStored, dataset.HighBit = 12, 11
        dataset.save_as(file)
    np.testing.assert_array_equal(read(tmp_path), VOXELS)


def test_a_lookup_table(tmp_path: Path) -> None:
    files = write_series(tmp_path, VOXELS)
    for file in files:
        dataset = dcmread(file)
        table = Dataset()
        table.LUTDescriptor, table.ModalityLUTType = [1000, 0, 16], "US"
        table.add_new("LUTData", "OW", (np.arange(1000, dtype="<u2") ** 2 % 5000).tobytes())
        dataset.ModalityLUTSequence = Sequence([table])
        dataset.save_as(file)
    np.testing.assert_array_equal(read(tmp_path), (np.arange(1000, dtype="<u2") ** 2 % 5000)[VOXELS])


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
def test_lossless_compression_changes_nothing(tmp_path: Path, syntax: UID) -> None:
    files = write_series(tmp_path, VOXELS)
    for file in files:
        dataset = dcmread(file)
        dataset.compress(syntax)
        dataset.save_as(file)
    np.testing.assert_array_equal(read(tmp_path), VOXELS)


@pytest.mark.parametrize("syntax", ["JPEGLosslessProcess14_1", "JPEGLosslessProcess14"])
def test_lossless_jpeg_changes_nothing(tmp_path: Path, syntax: str) -> None:
    files = write_series(tmp_path, VOXELS)
    for file in files:
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(str(file))
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFileName(str(file))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
    assert "JPEG Lossless" in dcmread(files[0]).file_meta.TransferSyntaxUID.name
    np.testing.assert_array_equal(read(tmp_path), VOXELS)


@pytest.mark.parametrize("name", ["SC_rgb_jpeg.dcm", "JPEGLSNearLossless_16.dcm", "JPEG2000.dcm"])
def test_lossy_compression_has_a_decoder(name: str) -> None:
    """These files say nothing of their place, so the decoders are asked directly."""
    dataset = dcmread(Path(pydicom.data.__file__).parent / "test_files" / name)
    assert get_decoder(dataset.file_meta.TransferSyntaxUID).is_available
    assert np.ptp(dataset.pixel_array) > 0


@pytest.mark.skipif(find_spec("libjpeg") is not None, reason="the decoder is installed")
def test_lossy_jpeg_of_12_bits_names_its_decoder(tmp_path: Path) -> None:
    dataset = dcmread(Path(pydicom.data.__file__).parent / "test_files" / "JPGExtended.dcm")
    dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing = [1, 1]
    dataset.save_as(tmp_path / "a.dcm")
    with pytest.raises(FileError, match=r"JPEG Extended .*pip install 'segkit\[jpeg12\]'"):
        read_scan(tmp_path / "a.dcm")


def test_byte_orders_and_missing_meta_headers_are_one(tmp_path: Path) -> None:
    folder = Path(pydicom.data.get_testdata_file("MR_small.dcm")).parent
    reference = dcmread(folder / "MR_small.dcm").pixel_array
    for name in ["bigendian", "expb", "implicit", "RLE", "jp2klossless", "jpeg_ls_lossless"]:
        np.testing.assert_array_equal(read(folder / f"MR_small_{name}.dcm")[0], reference, err_msg=name)
    bare = dcmread(folder / "MR_small.dcm")
    content = (folder / "MR_small.dcm").read_bytes()
    start = content.index(b"\x08\x00\x08\x00CS")
    for name, raw in (("bare.dcm", content[start:]), ("bare", content[start:])):
        (tmp_path / name).write_bytes(raw)
        np.testing.assert_array_equal(read_scan(tmp_path / name).pixels[0, ..., 0], bare.pixel_array)


def enhanced(path: Path, voxels: np.ndarray, order: list[int]) -> None:
    """An enhanced MR object whose frames come in `order`, each with its own slope."""
    (file,) = write_series(path.parent / "one", voxels[:1])
    dataset = dcmread(file)
    set_pixels(dataset, voxels[order])
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4.1"
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        delattr(dataset, name)
    for name in ("RepetitionTime", "EchoTime", "InversionTime"):
        delattr(dataset, name)
    measures, orientation, timing, echo, modifier = (Dataset() for _ in range(5))
    measures.PixelSpacing, measures.SliceThickness = [0.5, 0.75], 2
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    timing.RepetitionTime, echo.EffectiveEchoTime, modifier.InversionTimes = 9000, 100, [2500]
    shared = Dataset()
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Sequence([measures]), Sequence([orientation])
    shared.MRTimingAndRelatedParametersSequence = Sequence([timing])
    shared.MREchoSequence, shared.MRModifierSequence = Sequence([echo]), Sequence([modifier])
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    frames = []
    for slice_ in order:
        position, transform, groups = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, 2 * slice_]
        transform.RescaleSlope, transform.RescaleIntercept = slice_ + 1, 0
        groups.PlanePositionSequence = Sequence([position])
        groups.PixelValueTransformationSequence = Sequence([transform])
        frames.append(groups)
    dataset.PerFrameFunctionalGroupsSequence = Sequence(frames)
    dataset.SeriesDescription = "3D"
    dataset.save_as(path)


def test_an_enhanced_object_is_a_volume(tmp_path: Path) -> None:
    enhanced(tmp_path / "e.dcm", VOXELS, [2, 0, 1])
    scan = read_scan(tmp_path / "e.dcm")
    np.testing.assert_allclose(scan.pixels[..., 0], VOXELS * np.arange(1, 4)[:, None, None].astype(float))
    assert scan.spacing == pytest.approx((2, 0.5, 0.75))
    assert scan.notes == ()  # recognised as FLAIR by the timing of the shared groups
