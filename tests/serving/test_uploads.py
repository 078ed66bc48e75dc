"""What files claim, and zips that lie."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segkit.errors import SegkitError
from segkit.imaging.read import read_scan
from segkit.serving.archive import is_zip, unpack
from segkit.serving.budget import Budget
from segkit.serving.claims import claims_of
from segkit.serving.config import Limits
from segkit.serving.errors import RequestError
from segkit.serving.upload import Inspector, Upload
from tests.serving.conftest import encoded, picture

LIMITS = Limits(max_body_mb=1.0, max_slices=20, max_megavoxels=1.0)


def refusal(path: Path, limits: Limits = LIMITS) -> RequestError:
    with pytest.raises(RequestError) as caught:
        claims_of(path, limits)
    return caught.value


@pytest.mark.parametrize("kind", ["tif", "png"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_claims_of_pictures_are_what_the_reader_finds(tmp_path: Path, kind: str, channels: int) -> None:
    path = tmp_path / f"scan.{kind}"
    path.write_bytes(encoded(picture(size=(40, 64), channels=channels), "PNG" if kind == "png" else "TIFF"))
    claims = claims_of(path, LIMITS)
    assert claims is not None
    assert (claims.slices, claims.height, claims.width, claims.channels) == read_scan(path).pixels.shape


def test_pages_are_counted_and_too_many_are_refused(tmp_path: Path) -> None:
    pages = [Image.fromarray(picture(seed)) for seed in range(21)]
    pages[0].save(tmp_path / "many.tif", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "some.tif", save_all=True, append_images=pages[1:20])
    claims = claims_of(tmp_path / "some.tif", LIMITS)
    assert claims is not None
    assert claims.slices == 20
    assert refusal(tmp_path / "many.tif").status == 413


def test_pages_of_several_sizes_are_refused(tmp_path: Path) -> None:
    pages = [Image.fromarray(picture(0, (64, 64))), Image.fromarray(picture(0, (64, 96)))]
    pages[0].save(tmp_path / "odd.tif", save_all=True, append_images=pages[1:])
    assert refusal(tmp_path / "odd.tif").status == 400


def test_a_png_that_claims_to_be_huge_is_refused_by_its_header(tmp_path: Path) -> None:
    content = encoded(picture(), "PNG")
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    forged = content[:12] + chunk + struct.pack(">I", zlib.crc32(chunk)) + content[33:]
    (tmp_path / "scan.png").write_bytes(forged)
    error = refusal(tmp_path / "scan.png")
    assert error.status == 413
    assert "60000 x 60000" in error.reason


def test_a_tiff_that_claims_to_be_huge_is_refused_by_its_header(tmp_path: Path) -> None:
    (tmp_path / "scan.tif").write_bytes(encoded(picture(size=(8, 8), channels=1)))
    content = bytearray((tmp_path / "scan.tif").read_bytes())
    (offset,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, offset)
    for entry in range(count):
        at = offset + 2 + 12 * entry
        tag, kind = struct.unpack_from("<HH", content, at)
        if tag in (256, 257):
            struct.pack_into("<I" if kind == 4 else "<HH", content, at + 8, *((50000,) if kind == 4 else (50000, 0)))
    (tmp_path / "scan.tif").write_bytes(bytes(content))
    assert refusal(tmp_path / "scan.tif").status == 413


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("shape", "status"), [((3000, 3000, 300), 413), ((8, 8, 9000), 413), ((-4, 8, 8), 400), ((0, 8, 8), 400)]
)
def test_nifti_headers_are_believed_in_neither_size_nor_sign(
    tmp_path: Path, order: str, shape: tuple[int, int, int], status: int
) -> None:
    head = bytearray(352)
    struct.pack_into(f"{order}i", head, 0, 348)
    struct.pack_into(f"{order}8h", head, 40, 3, *shape, 1, 1, 1, 1)
    struct.pack_into(f"{order}2h", head, 70, 4, 16)
    head[344:348] = b"n+1\0"
    (tmp_path / "scan.nii").write_bytes(bytes(head))
    assert refusal(tmp_path / "scan.nii").status == status


def test_claims_of_real_files_are_what_the_reader_finds(shared: Path) -> None:
    generous = Limits(max_megavoxels=512.0, max_slices=100000)
    seen = 0
    for path in sorted((shared / "nifti").glob("*.nii*")):
        try:
            scan = read_scan(path)
        except SegkitError:
            continue
        claims = claims_of(path, generous)
        assert claims is not None
        assert claims.values == scan.pixels.size
        seen += 1
    assert seen >= 3


def zipped(folder: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    path = folder / "scan"
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def unpacked(path: Path, tmp_path: Path) -> list[str]:
    target = tmp_path / "out"
    target.mkdir()
    return unpack(path, target, LIMITS)


def test_names_lead_nowhere_and_order_is_natural(tmp_path: Path) -> None:
    one = encoded(picture())
    names = ("p/s_10.tif", "../../evil.tif", "/etc/s_2.tif", "a/../evil.tif", "x\\..\\evil.tif", "p/s_1.PNG")
    found = unpacked(zipped(tmp_path, dict.fromkeys(names, one)), tmp_path)
    assert found == ["s_1.PNG", "s_2.tif", "s_10.tif"]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["00000.png", "00001.tif", "00002.tif"]
    assert {file.name for file in tmp_path.iterdir()} == {"scan", "out"}


def test_a_bomb_is_refused_by_its_claim(tmp_path: Path) -> None:
    path = zipped(tmp_path, {"a.tif": bytes(2_000_000)})
    assert path.stat().st_size < 10_000
    with pytest.raises(RequestError, match="unpacks to more") as caught:
        unpacked(path, tmp_path)
    assert caught.value.status == 413


def test_a_bomb_that_lies_about_its_size_is_stopped(tmp_path: Path) -> None:
    path = zipped(tmp_path, {"a.tif": bytes(3_000_000)})
    content = path.read_bytes().replace(struct.pack("<I", 3_000_000), struct.pack("<I", 1000))
    path.write_bytes(content)
    with pytest.raises(RequestError) as caught:
        unpacked(path, tmp_path)
    assert caught.value.status in (400, 413)
    assert sum(file.stat().st_size for file in (tmp_path / "out").iterdir()) <= 1_100_000


@pytest.mark.parametrize(
    ("files", "status"),
    [
        ({}, 415),
        ({"__MACOSX/a.tif": b"x", ".hidden.tif": b"x", "s_mask.tif": b"x"}, 415),
        ({f"{index}.tif": b"x" for index in range(21)}, 413),
        ({f"{index:050d}" * 4 + ".tif": b"x" for index in range(200)}, 413),
    ],
)
def test_zips_without_scans_or_with_too_many_are_refused(tmp_path: Path, files: dict[str, bytes], status: int) -> None:
    with pytest.raises(RequestError) as caught:
        unpacked(zipped(tmp_path, files), tmp_path)
    assert caught.value.status == status


def test_other_methods_than_deflate_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="another method") as caught:
        unpacked(zipped(tmp_path, {"a.tif": b"x" * 1000}, zipfile.ZIP_LZMA), tmp_path)
    assert caught.value.status == 400


@pytest.mark.parametrize("cut", [30, -30, -10])
def test_damaged_zips_are_refused(tmp_path: Path, cut: int) -> None:
    path = zipped(tmp_path, {"a.tif": encoded(picture())})
    path.write_bytes(path.read_bytes()[:cut])
    assert is_zip(path)
    with pytest.raises(RequestError) as caught:
        unpacked(path, tmp_path)
    assert caught.value.status == 400


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path, {"a.tif": b"x" * 100}, zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    central = content.index(b"PK\x01\x02")
    content[6] |= 1
    content[central + 8] |= 1
    path.write_bytes(bytes(content))
    with pytest.raises(RequestError, match="encrypted"):
        unpacked(path, tmp_path)


def inspected(folder: Path) -> Upload:
    return Inspector(folder, LIMITS, Budget(2**30, "full").share(), ("pre", "flair", "post"), {}).inspect()


def test_a_zip_with_one_file_is_that_file(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("scan.png", encoded(picture(), "PNG"))
    (tmp_path / "scan").write_bytes(buffer.getvalue())
    upload = inspected(tmp_path)
    assert upload.format == "png"
    assert isinstance(upload.source, Path)
    np.testing.assert_array_equal(read_scan(upload.source).pixels[0], picture())


def test_a_zip_of_slices_claims_all_of_them(tmp_path: Path) -> None:
    zipped(tmp_path, {f"s{index}.tif": encoded(picture(index)) for index in range(5)})
    upload = inspected(tmp_path)
    assert upload.claims is not None
    assert upload.claims.values == 5 * 64 * 64 * 3
    assert upload.names == tuple(f"s{index}.tif" for index in range(5))
