"""A picture to look at: the slices with each class's outline and a translucent fill."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from segkit.files import atomic_path
from segkit.imaging.marks import MARK
from segkit.imaging.planes import PLANES, spacing_in, to_plane

COLOURS = ((255, 70, 70), (60, 190, 255), (255, 205, 50), (110, 230, 110), (225, 120, 255), (255, 150, 60))
MAX_TILES = 12  # slices of a volume that are shown: those with the most mask
_SMALLEST_ONE = 512  # a smaller single slice is enlarged by a whole factor until its longer side is this, in pixels
_LARGEST_ONE = 1024  # a larger single slice is shrunk to this
_SMALLEST_TILE, _LARGEST_TILE = 256, 384
_FILL = 0.3  # opacity of the fill; the outline is opaque
_BAR = 26  # height of the legend, in pixels
_GAP = 4
_BACKGROUND = (24, 24, 24)
_PLANE_PIXELS = 384  # of the volume's longest side, where the three planes are drawn


def write_overlay(
    path: Path,
    image: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    classes: Sequence[str],
    *,
    spacing: tuple[float, float, float] | None = None,
) -> None:
    """Write `draw_overlay` as PNG, atomically. Raises FileError where that cannot be done."""
    save_picture(path, draw_overlay(image, mask, classes, spacing=spacing))


def write_planes(
    path: Path,
    image: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    classes: Sequence[str],
    spacing: tuple[float, float, float],
) -> None:
    """Write `draw_planes` as PNG, atomically. Raises FileError where that cannot be done."""
    save_picture(path, draw_planes(image, mask, classes, spacing))


def save_picture(path: Path, picture: Image.Image) -> None:
    """Write a PNG with the mark of ours, atomically."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Software", MARK)
    with atomic_path(path) as temporary:
        picture.save(temporary, pnginfo=info)


def draw_planes(
    image: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    classes: Sequence[str],
    spacing: tuple[float, float, float],
) -> Image.Image:
    """Draw the axial, coronal and sagittal slice with the most mask side by side, all to one scale.

    `image` `[S, H, W, C]`, `mask` `[S, H, W]` and `spacing` (mm) are those of axial slices, right on the left.
    """
    unit = _PLANE_PIXELS / max(length * step for length, step in zip(mask.shape, spacing, strict=True))
    tiles = []
    for plane in PLANES:
        pixels, labels = to_plane(image, plane), to_plane(mask, plane)
        areas = np.count_nonzero(labels, axis=(1, 2))
        at = int(areas.argmax()) if areas.any() else len(labels) // 2
        _, tall, wide = spacing_in(spacing, plane)
        size = (max(1, round(labels.shape[2] * wide * unit)), max(1, round(labels.shape[1] * tall * unit)))
        tile = _tile(np.ascontiguousarray(pixels[at]), np.ascontiguousarray(labels[at]), size)
        left, right = ("R", "L") if plane != "sagittal" else ("A", "P")
        _write_on(tile, (6, 4), f"{plane} {at + 1}")
        _write_on(tile, (6, size[1] // 2), left)
        _write_on(tile, (max(0, size[0] - 16), size[1] // 2), right)
        tiles.append(tile)
    width = sum(tile.width for tile in tiles) + _GAP * (len(tiles) - 1)
    height = max(tile.height for tile in tiles)
    bar = _legend(mask, classes, width)
    sheet = Image.new("RGB", (width, height + bar.height), _BACKGROUND)
    left_edge = 0
    for tile in tiles:
        sheet.paste(tile, (left_edge, (height - tile.height) // 2))
        left_edge += tile.width + _GAP
    sheet.paste(bar, (0, height))
    return sheet


def draw_overlay(
    image: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    classes: Sequence[str],
    *,
    spacing: tuple[float, float, float] | None = None,
) -> Image.Image:
    """Draw slices `[S, H, W, C]` uint8 (3 channels as colours, else the first as grey), mask `[S, H, W]`.

    `classes` names each class index, background first; `spacing` keeps non-square pixels in proportion.
    """
    chosen = choose_slices(mask)
    limits = (_SMALLEST_ONE, _LARGEST_ONE) if len(chosen) == 1 else (_SMALLEST_TILE, _LARGEST_TILE)
    size = _view_size(mask.shape[1], mask.shape[2], spacing, limits)
    columns = math.ceil(math.sqrt(len(chosen)))
    rows = math.ceil(len(chosen) / columns)
    width, height = columns * (size[0] + _GAP) - _GAP, rows * (size[1] + _GAP) - _GAP
    bar = _legend(mask, classes, width)
    sheet = Image.new("RGB", (width, height + bar.height), _BACKGROUND)
    for position, index in enumerate(chosen):
        tile = _tile(image[index], mask[index], size)
        if len(mask) > 1:
            _write_on(tile, (6, 4), str(index + 1))
        row, column = divmod(position, columns)
        sheet.paste(tile, (column * (size[0] + _GAP), row * (size[1] + _GAP)))
    sheet.paste(bar, (0, height))
    return sheet


def choose_slices(mask: NDArray[np.uint8]) -> list[int]:
    """At most MAX_TILES slices, in order: those with the most mask, or evenly spaced ones if it is empty."""
    areas = np.count_nonzero(mask, axis=(1, 2))
    if not areas.any():
        return sorted({int(index) for index in np.linspace(0, len(mask) - 1, min(MAX_TILES, len(mask)))})
    largest = np.argsort(-areas, kind="stable")[:MAX_TILES]
    return sorted(int(index) for index in largest if areas[index])


def _tile(image: NDArray[np.uint8], mask: NDArray[np.uint8], size: tuple[int, int]) -> Image.Image:
    """One slice at `size` (width, height) with fill and outline."""
    if image.shape[-1] == 3:
        grey_or_colour = Image.fromarray(image)
    else:
        grey_or_colour = Image.fromarray(image[..., 0]).convert("RGB")
    view = np.asarray(grey_or_colour.resize(size, Image.Resampling.BICUBIC)).copy()
    labels = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
    colours = np.array(
        [COLOURS[index % len(COLOURS)] for index in range(max(1, int(labels.max(initial=0))))], np.float32
    )
    inside = labels > 0
    colour = colours[labels[inside] - 1]
    view[inside] = (view[inside] * (1 - _FILL) + colour * _FILL).astype(np.uint8)
    outline = _outline(labels)
    view[outline] = colours[labels[outline] - 1].astype(np.uint8)
    return Image.fromarray(view)


def _outline(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels of a class with a neighbour (of four) of another class, or on the picture's edge."""
    framed = np.pad(labels, 1)
    inner = framed[1:-1, 1:-1]
    same = (framed[:-2, 1:-1] == inner) & (framed[2:, 1:-1] == inner)
    same &= (framed[1:-1, :-2] == inner) & (framed[1:-1, 2:] == inner)
    edge: NDArray[np.bool_] = (inner > 0) & ~same
    return edge


def _view_size(
    height: int, width: int, spacing: tuple[float, float, float] | None, limits: tuple[int, int]
) -> tuple[int, int]:
    """Width and height of the slice as drawn: in proportion, the longer side within `limits`."""
    tall, wide = float(height), float(width)
    if spacing and min(spacing[1:]) > 0:
        tall *= spacing[1] / min(spacing[1:])
        wide *= spacing[2] / min(spacing[1:])
    longer = max(tall, wide)
    smallest, largest = limits
    factor = math.ceil(smallest / longer) if longer < smallest else min(1.0, largest / longer)
    return max(1, round(wide * factor)), max(1, round(tall * factor))


def _legend(mask: NDArray[np.uint8], classes: Sequence[str], width: int) -> Image.Image:
    """A bar that names each class beside its colour, in as many lines as the width asks for."""
    font = _font(14)
    words = [f"{name}{'' if (mask == index).any() else ' (none)'}" for index, name in enumerate(classes) if index]
    places, left, line = [], 8, 0
    for word in words:
        length = 18 + math.ceil(font.getlength(word)) + 16
        if left > 8 and left + length > width:
            left, line = 8, line + 1
        places.append((left, line))
        left += length
    bar = Image.new("RGB", (width, _BAR * (line + 1)), _BACKGROUND)
    draw = ImageDraw.Draw(bar)
    for index, (word, (x, row)) in enumerate(zip(words, places, strict=True)):
        top = row * _BAR
        draw.rectangle((x, top + 7, x + 12, top + 19), COLOURS[index % len(COLOURS)])
        draw.text((x + 18, top + 5), word, (235, 235, 235), font)
    return bar


def _write_on(tile: Image.Image, place: tuple[int, int], text: str) -> None:
    ImageDraw.Draw(tile).text(place, text, (235, 235, 235), _font(14), stroke_width=1, stroke_fill=0)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
