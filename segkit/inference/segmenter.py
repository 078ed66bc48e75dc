"""A scan through a model: window, fit, run, undo the fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from segkit.errors import ConfigError, FileError
from segkit.imaging.fit import Placement, fit_image, place, unfit_mask, unfit_probability
from segkit.imaging.planes import CHOICES, choose_plane, spacing_in, to_plane
from segkit.imaging.scan import Scan
from segkit.imaging.window import scan_to_uint8
from segkit.inference.postprocess import LesionSize
from segkit.inference.smoothing import planes_held, smoothed
from segkit.inference.volume_rule import VolumeRule
from segkit.model_metadata import ModelMetadata

_MAX_HELD = 2**29  # bytes of probabilities that smoothing may hold

MAX_CANVAS = {"cpu": 2**21, "cuda": 2**24}  # pixels of one slice: a U-Net of width 32 takes 0.8 kB for each
BATCH_PIXELS = {"cpu": 2**18, "cuda": 2**21}  # of a batch of unstated size: 4 and 32 slices of 256 x 256


@dataclass(frozen=True)
class Segmentation:
    """What a model says of a scan.

    Attributes:
        mask: class index of each voxel, uint8 `[slices, height, width]`, on the grid of the scan.
        image: the scan as the model had it before fitting, uint8 `[slices, height, width, channels]`.
        plane: the plane that the net saw slices of.
        rule: how the slices decided together.
        notes: what the user should know of how the scan was taken, one line each.
    """

    mask: NDArray[np.uint8]
    image: NDArray[np.uint8]
    plane: str
    rule: VolumeRule
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Slicing:
    """How a volume is cut into the slices that a net sees, and put together again; None keeps the model's word.

    Attributes:
        plane: "axial", "coronal", "sagittal", or "auto" (imaging/planes.py).
        pixel_mm: side of a training pixel.
        flip, smooth, threshold, min_lesion: as in `VolumeRule`.
        by_slice: each slice for itself, without the model's rule for volumes.
    """

    plane: str = "auto"
    pixel_mm: float | None = None
    flip: bool | None = None
    smooth: float | None = None
    threshold: float | None = None
    min_lesion: LesionSize | None = None
    by_slice: bool = False

    def __post_init__(self) -> None:
        if self.plane not in CHOICES:
            raise ConfigError("plane", self.plane, ", ".join(CHOICES))
        if self.pixel_mm is not None and not 0.01 <= self.pixel_mm <= 100:
            raise ConfigError("pixel_mm", self.pixel_mm, "millimetres from 0.01 to 100")
        self._over(VolumeRule())

    def rule_for(self, metadata: ModelMetadata, slices: int) -> VolumeRule:
        """The rule for so many slices: the model's, which is one for volumes, under what is set here."""
        return self._over(VolumeRule() if self.by_slice or slices == 1 else VolumeRule.of(metadata))

    def _over(self, rule: VolumeRule) -> VolumeRule:
        values = {name: getattr(self, name) for name in VolumeRule.__dataclass_fields__}
        return replace(rule, **{name: value for name, value in values.items() if value is not None})


class Model(Protocol):
    """What the segmenter asks of a model: an ONNX session (`inference.session`) or a trained net has it."""

    @property
    def metadata(self) -> ModelMetadata: ...

    @property
    def path(self) -> Path:
        """The file it came from."""
        ...

    @property
    def device(self) -> str:
        """Either "cpu" or "cuda"."""
        ...

    def masks(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Class indices `[N, H, W]` of images `[N, H, W, C]`."""
        ...

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities `[N, K, H, W]` of images `[N, H, W, C]`."""
        ...


class Segmenter:
    """Segments scans with one model.

    `batch` counts slices of the training size that go through the net at once; of larger ones it is fewer.
    None chooses by device.
    """

    def __init__(self, model: Model, batch: int | None = None) -> None:
        if batch is not None and batch < 1:
            raise ConfigError("batch", batch, "1 or more")
        self.model = model
        height, width = model.metadata.size
        self._pixels = BATCH_PIXELS[model.device] if batch is None else batch * height * width

    def segment(
        self,
        scan: Scan,
        slicing: Slicing | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Segmentation:
        """Segment a scan of any size; `progress` is told the slices done and their number.

        A scan without an affine (TIFF, PNG) has one plane, that of its pages.

        Raises:
            FileError: the channels are not those of the model, or a slice is larger than memory allows.
        """
        slicing = slicing or Slicing()
        image, plane, placement = self._prepared(scan, slicing)
        mask = np.empty(scan.shape, np.uint8)
        target = to_plane(mask, plane)
        rule = slicing.rule_for(self.model.metadata, len(target))
        self._check_smoothing(scan, rule.smooth, placement)
        for index, labels in enumerate(self._planes(to_plane(image, plane), placement, rule)):
            target[index] = labels
            progress(index + 1, len(target))
        scan.clear_missing(mask)  # which a segmentation could not refer to
        mask = rule.min_lesion.apply(mask, scan)
        return Segmentation(mask, image, plane, rule, _stand_in(scan, self.model.metadata.channels))

    def probabilities(self, scan: Scan, slicing: Slicing) -> Iterator[NDArray[np.float32]]:
        """The probabilities `[K, h, w]` of each slice, on the grid of the scan; of a rule `slicing.flip` counts."""
        image, plane, placement = self._prepared(scan, slicing)
        batches = self._batches(to_plane(image, plane), placement)
        each = (one for batch in batches for one in self._said(batch, bool(slicing.flip)))
        return (unfit_probability(one, placement) for one in each)

    def _prepared(self, scan: Scan, slicing: Slicing) -> tuple[NDArray[np.uint8], str, Placement]:
        """The scan as the model takes it, the plane to cut it in, and where its slices lie in the net's canvas."""
        image = match_channels(scan_to_uint8(scan), scan, len(self.model.metadata.channels))
        plane = "axial"
        if scan.affine is not None:
            plane = choose_plane(scan.spacing, slicing.plane, self.model.metadata.plane)
        return image, plane, self._placement(scan, plane, slicing.pixel_mm)

    def _placement(self, scan: Scan, plane: str, pixel_mm: float | None) -> Placement:
        """Where each slice lies in the net's canvas. Raises FileError for a slice beyond memory."""
        metadata = self.model.metadata
        _, height, width = to_plane(np.broadcast_to(np.uint8(0), scan.shape), plane).shape
        target = (pixel_mm, pixel_mm) if pixel_mm is not None else metadata.pixel_mm
        # A net that was trained on volumes of mixed resolution saw their pixels as they were.
        known = scan.spacing is not None and (target is not None or not metadata.plane)
        pixel = spacing_in(scan.spacing, plane)[1:] if known and scan.spacing is not None else None
        placement = place((height, width), metadata.size, metadata.fit, pixel=pixel, target=target)
        if placement.canvas[0] * placement.canvas[1] > MAX_CANVAS[self.model.device]:
            resampled = f" ({placement.scaled[1]} x {placement.scaled[0]} resampled)" if placement.is_scaled else ""
            what = f"has slices of {width} x {height}{resampled}, which are too large for this model at once"
            raise FileError(scan.source, what, "crop them, or train with `--fit scale`")
        return placement

    def _check_smoothing(self, scan: Scan, smooth: float, placement: Placement) -> None:
        """Raise FileError where the probabilities of neighbouring slices would not fit in memory together."""
        height, width = placement.canvas
        size = planes_held(smooth) * len(self.model.metadata.classes) * height * width * 4
        if size > _MAX_HELD:
            seen = f"has slices that the net sees at {width} x {height}"
            what = f"{seen}, too large to smooth over {planes_held(smooth)} of them"
            raise FileError(scan.source, what, "choose a smaller --smooth")

    def _planes(self, image: NDArray[np.uint8], placement: Placement, rule: VolumeRule) -> Iterator[NDArray[np.uint8]]:
        """The mask `[h, w]` of each slice of `[S, h, w, C]`, a batch at a time."""
        batches = self._batches(image, placement)
        if rule.needs_probabilities:
            # Smoothed before the fit is undone, which gives the same: a canvas is smaller than a large slice.
            each = (one for batch in batches for one in self._said(batch, rule.flip))
            for mean in smoothed(each, rule.smooth):
                yield rule.decide(unfit_probability(mean, placement))
        elif placement.is_scaled:
            for batch in batches:
                yield from (_most_probable(one, placement) for one in self.model.probabilities(batch))
        else:
            for batch in batches:
                yield from unfit_mask(self.model.masks(batch), placement)

    def _said(self, batch: NDArray[np.uint8], flip: bool) -> NDArray[np.float32]:
        """Probabilities `[N, K, H, W]` of a batch; with `flip` their mean with those of the mirrored slices."""
        plain = self.model.probabilities(batch)
        if not flip:
            return plain
        mirrored = self.model.probabilities(np.ascontiguousarray(batch[:, :, ::-1]))
        return (plain + mirrored[..., ::-1]) * np.float32(0.5)

    def _batches(self, image: NDArray[np.uint8], placement: Placement) -> Iterator[NDArray[np.uint8]]:
        step = max(1, self._pixels // (placement.canvas[0] * placement.canvas[1]))
        return (fit_image(image[start : start + step], placement) for start in range(0, len(image), step))


def match_channels(image: NDArray[np.uint8], scan: Scan, wanted: int) -> NDArray[np.uint8]:
    """Bring `[S, H, W, C]` to the channels of a model.

    Alpha is left out; one channel is repeated, as the dataset does for a missing sequence; equal channels
    (grey saved as RGB) become one. A repeated channel is a view.

    Raises:
        FileError: any other difference.
    """
    have = scan.measured
    image = image[..., :have]
    if have == wanted:
        return image
    if have == 1:
        return np.broadcast_to(image, (*image.shape[:-1], wanted))
    if wanted == 1 and all(np.array_equal(image[..., 0], image[..., index]) for index in range(1, have)):
        return image[..., :1]
    raise FileError(
        scan.source, f"has {have} channels, the model takes {wanted}", "choose the files or a model that fit"
    )


def _stand_in(scan: Scan, channels: tuple[str, ...]) -> tuple[str, ...]:
    """A note where the one channel of a scan was repeated for several of the model."""
    if scan.measured != 1 or len(channels) == 1:
        return ()
    return (f"its one channel stands in for all {len(channels)} of the model ({', '.join(channels)})",)


def _most_probable(probability: NDArray[np.float32], placement: Placement) -> NDArray[np.uint8]:
    """The class `[h, w]` with the largest probability after mapping `[K, H, W]` back, one class at a time."""
    best = unfit_probability(probability[0], placement)
    mask = np.zeros(placement.source, np.uint8)
    for index in range(1, len(probability)):
        candidate = unfit_probability(probability[index], placement)
        better = candidate > best
        mask[better] = index
        np.maximum(best, candidate, out=best)
    return mask
