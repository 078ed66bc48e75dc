from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segkit.errors import FileError
from segkit.imaging.image_file import read_image_file

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (5, 7)).astype(np.uint8)
COLOUR = RNG.integers(0, 256, (5, 7, 3)).astype(np.uint8)


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def pixels_of(path: Path) -> np.ndarray:
    """`[height, width, channels]` of a file of one slice."""
    (pixels,) = read_image_file(path).pixels
    return pixels


@pytest.mark.parametrize("suffix", [".tif", ".png"])
@pytest.mark.parametrize(
    ("pixels", "channels"),
    [
        (GREY, ("grey",)),
        (COLOUR, ("red", "green", "blue")),
        (RNG.integers(0, 256, (5, 7, 4)).astype(np.uint8), ("red", "green", "blue", "alpha")),
        (RNG.integers(0, 256, (5, 7, 2)).astype(np.uint8), ("grey", "alpha")),
        (RNG.integers(0, 65536, (5, 7)).astype(np.uint16), ("grey",)),
    ],
)
def test_pixels_come_as_they_were_saved(tmp_path: Path, suffix: str, pixels: np.ndarray, channels) -> None:
    scan = read_image_file(save(tmp_path / f"a{suffix}", Image.fromarray(pixels)))
    assert scan.channels == channels
    assert scan.pixels.dtype == pixels.dtype
    np.testing.assert_array_equal(scan.pixels, pixels.reshape(1, 5, 7, -1))
    assert (scan.spacing, scan.affine) == (None, None)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_tiff_of_32_bits(tmp_path: Path, dtype: type) -> None:
    pixels = (RNG.standard_normal((5, 7)) * 1e5).astype(dtype)
    np.testing.assert_array_equal(pixels_of(save(tmp_path / "a.tif", Image.fromarray(pixels)))[..., 0], pixels)


def test_big_endian_16_bits_become_native(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 65536, (5, 7)).astype(">u2")
    image = Image.frombytes("I;16B", (7, 5), pixels.tobytes())
    read = pixels_of(save(tmp_path / "a.tif", image))
    assert read.dtype.isnative
    np.testing.assert_array_equal(read[..., 0], pixels)


def test_one_bit_is_black_and_white(tmp_path: Path) -> None:
    image = Image.fromarray(GREY > 127)
    np.testing.assert_array_equal(pixels_of(save(tmp_path / "a.tif", image))[..., 0], (GREY > 127) * 255)


def test_a_palette_gives_colours(tmp_path: Path) -> None:
    image = Image.fromarray(GREY % 3).convert("P")
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255])
    path = save(tmp_path / "a.png", image)
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8)
    np.testing.assert_array_equal(pixels_of(path), colours[GREY % 3])


def test_a_grey_palette_is_one_channel(tmp_path: Path) -> None:
    image = Image.fromarray(GREY).convert("P")
    image.putpalette([value for level in range(256) for value in (level, level, level)])
    np.testing.assert_array_equal(pixels_of(save(tmp_path / "a.tif", image))[..., 0], GREY)


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    image = Image.fromarray(COLOUR).convert("CMYK")
    assert pixels_of(save(tmp_path / "a.tif", image)).shape == (5, 7, 3)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate"])
def test_pages_are_slices(tmp_path: Path, compression: str | None) -> None:
    pages = RNG.integers(0, 256, (4, 5, 7)).astype(np.uint8)
    images = [Image.fromarray(page) for page in pages]
    path = save(tmp_path / "a.tif", images[0], save_all=True, append_images=images[1:], compression=compression)
    np.testing.assert_array_equal(read_image_file(path).pixels[..., 0], pages)


@pytest.mark.parametrize("other", [Image.new("L", (7, 6)), Image.new("RGB", (7, 5))])
def test_pages_that_differ_are_refused(tmp_path: Path, other: Image.Image) -> None:
    path = save(tmp_path / "a.tif", Image.fromarray(GREY), save_all=True, append_images=[other])
    with pytest.raises(FileError, match="page 2 is 7 x"):
        read_image_file(path)


def test_the_content_decides_not_the_suffix(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", Image.fromarray(GREY), format="PNG")
    assert read_image_file(path).kind == "png"


def test_a_truncated_file_is_one_line(tmp_path: Path) -> None:
    noise = Image.fromarray(RNG.integers(0, 256, (64, 64)).astype(np.uint8))
    for suffix, options in ((".tif", {}), (".tif", {"compression": "tiff_lzw"}), (".png", {})):
        path = save(tmp_path / f"a{suffix}", noise, **options)
        content = path.read_bytes()
        for length in (4, 60, len(content) // 2):
            path.write_bytes(content[:length])
            with pytest.raises(FileError) as caught:
                read_image_file(path)
            assert "\n" not in str(caught.value)


def test_libtiff_does_not_write_to_the_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = save(tmp_path / "a.tif", Image.fromarray(np.tile(GREY, (40, 40))), compression="tiff_lzw")
    path.write_bytes(path.read_bytes().replace(path.read_bytes()[2000:2400], b"\xff" * 400))
    with pytest.raises(FileError):
        read_image_file(path)
    assert capfd.readouterr().err == ""


def test_a_huge_claim_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", Image.fromarray(GREY))
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", 100_000, 100_000)
    import zlib

    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)
    with pytest.raises(FileError, match="100000 x 100000 pixels"):
        read_image_file(path)


def test_16_bits_a_colour_are_refused_not_cut(tmp_path: Path) -> None:
    entries = [(256, 2), (257, 2), (259, 1), (262, 2), (277, 3), (278, 2), (279, 24)]
    head = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries) + 2)
    fields = {tag: struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries}
    data_at = 8 + 2 + 12 * 9 + 4
    fields[258] = struct.pack("<HHII", 258, 3, 3, data_at)
    fields[273] = struct.pack("<HHII", 273, 4, 1, data_at + 6)
    path = tmp_path / "a.tif"
    body = b"".join(fields[tag] for tag in sorted(fields)) + b"\0" * 4
    path.write_bytes(head + body + struct.pack("<3H", 16, 16, 16) + b"\1" * 24)
    with pytest.raises(FileError, match="16 bits a colour"):
        read_image_file(path)
