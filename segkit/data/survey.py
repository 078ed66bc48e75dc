"""One pass over every slice: is it readable, how much of each class is in it, how bright is each channel.

The pass names unreadable slices at the start instead of in hour three; balanced sampling needs the class
counts, normalisation the channel sums. It is kept in the cache, keyed by the fingerprint of the inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segkit.data.cases import CaseSet, Problem, SliceRef
from segkit.data.read import read_slice
from segkit.errors import FileError
from segkit.imaging.fit import fit_image, fit_mask, place
from segkit.resources import granted_cpus

Pair = tuple[np.ndarray, np.ndarray]  # image uint8 [H, W, C], mask uint8 [H, W]


@dataclass(frozen=True)
class Frame:
    """How every slice of a dataset is brought to one size."""

    size: tuple[int, int]  # height, width in pixels, multiples of 32
    fit: str  # "scale" or "pad"

    def apply(self, image: np.ndarray, mask: np.ndarray) -> Pair:
        """Bring uint8 [..., h, w, C] and [..., h, w] to this frame."""
        placement = place((mask.shape[-2], mask.shape[-1]), self.size, self.fit)
        return fit_image(image, placement), fit_mask(mask, placement)


def choose_frame(case_set: CaseSet, size: int = 0, fit: str = "auto") -> Frame:
    """The training frame: the dataset's own size where `size` is 0; "pad" where sizes differ and none was asked for."""
    shapes = {case.shape for case in case_set.cases}
    if fit == "auto":
        fit = "scale" if size or len(shapes) == 1 else "pad"
    if size:
        return Frame((size, size), fit)
    height, width = (max(shape[axis] for shape in shapes) for axis in (0, 1))
    return Frame((_round_up(height), _round_up(width)), fit)


def _round_up(value: int, multiple: int = 32) -> int:
    return max(multiple, -(-value // multiple) * multiple)


@dataclass(frozen=True)
class Survey:
    """Counts over every slice, in the order of the cases."""

    pixels: np.ndarray  # int64 [N, K]: pixels of each class
    sums: np.ndarray  # int64 [N, C]: sum of each channel, 0..255
    squares: np.ndarray  # int64 [N, C]: sum of squares of each channel
    area: int  # pixels in a slice

    def has_foreground(self) -> np.ndarray:
        """bool [N]: slices with any class but the background."""
        return np.asarray(self.pixels[:, 1:].sum(axis=1) > 0)

    def normalisation(self, rows: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel over the slices `rows`, on the scale 0..1."""
        count = self.area * max(1, len(rows))
        mean = self.sums[rows].sum(axis=0) / count
        variance = np.maximum(self.squares[rows].sum(axis=0) / count - mean**2, 1.0)
        return tuple(float(v) for v in mean / 255), tuple(float(v) for v in np.sqrt(variance) / 255)

    def save(self, path: Path) -> None:
        """Write as a NumPy archive (no pickles)."""
        with path.open("wb") as file:
            np.savez(file, pixels=self.pixels, sums=self.sums, squares=self.squares, area=np.int64(self.area))

    @classmethod
    def load(cls, path: Path) -> Survey:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(arrays["pixels"], arrays["sums"], arrays["squares"], int(arrays["area"]))


def run_survey(case_set: CaseSet, frame: Frame, keep: Callable[[int, Pair], None] | None = None) -> Survey:
    """Decode every slice once, in the frame; `keep(i, pair)` is called with each, in order.

    Raises:
        UnreadableSlices: naming every slice that cannot be used.
    """
    refs = all_refs(case_set)
    count, channels, classes = len(refs), len(case_set.channels), len(case_set.classes)
    pixels = np.zeros((count, classes), np.int64)
    sums, squares = np.zeros((2, count, channels), np.int64)
    problems = []
    for i, pair in enumerate(_decoded(case_set, frame, refs)):
        if isinstance(pair, Problem):
            problems.append(pair)
            continue
        image, mask = pair
        pixels[i] = np.bincount(mask.ravel(), minlength=classes)
        wide = image.reshape(-1, channels).astype(np.uint32)
        sums[i], squares[i] = wide.sum(axis=0, dtype=np.int64), np.square(wide).sum(axis=0, dtype=np.int64)
        if keep is not None and not problems:
            keep(i, pair)
    if problems:
        raise UnreadableSlices(problems)
    return Survey(pixels, sums, squares, frame.size[0] * frame.size[1])


class UnreadableSlices(FileError):  # noqa: N818 - reads as what it lists
    """Slices that cannot be decoded or do not match their masks."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        more = f" (and {len(problems) - 1} more: segkit data inspect)" if len(problems) > 1 else ""
        super().__init__(problems[0].path, problems[0].reason + more, "mend the file, or leave it out with --skip-bad")


def all_refs(case_set: CaseSet) -> list[SliceRef]:
    """Every slice, case by case: the row order of surveys and stores."""
    return [ref for case in case_set.cases for ref in case.slices]


def _decoded(case_set: CaseSet, frame: Frame, refs: list[SliceRef]) -> Iterator[Pair | Problem]:
    def read(ref: SliceRef) -> Pair | Problem:
        try:
            return frame.apply(*read_slice(case_set, ref))
        except FileError as error:
            return Problem(error.path, error.reason)

    threads = granted_cpus()
    with ThreadPoolExecutor(threads) as pool:  # decoding releases the GIL
        for start in range(0, len(refs), 64 * threads):  # in pieces, so that memory stays bounded
            yield from pool.map(read, refs[start : start + 64 * threads])
