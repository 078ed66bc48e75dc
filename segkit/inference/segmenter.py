"""A scan through a model: window, fit, run, undo the fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from segkit.errors import ConfigError, FileError
from segkit.imaging.fit import Placement, fit_image, place, unfit_mask, unfit_probability
from segkit.imaging.scan import Scan
from segkit.imaging.window import scan_to_uint8
from segkit.model_metadata import ModelMetadata

MAX_CANVAS = {"cpu": 2**21, "cuda": 2**24}  # pixels of one slice: a U-Net of width 32 takes 0.8 kB for each
BATCH_PIXELS = {"cpu": 2**18, "cuda": 2**21}  # of a batch of unstated size: 4 and 32 slices of 256 x 256


@dataclass(frozen=True)
class Segmentation:
    """What a model says of a scan.

    Attributes:
        mask: class index of each voxel, uint8 `[slices, height, width]`.
        image: the scan as the model had it before fitting, uint8 `[slices, height, width, channels]`.
    """

    mask: NDArray[np.uint8]
    image: NDArray[np.uint8]


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

    def segment(self, scan: Scan) -> Segmentation:
        """Segment a scan of any size.

        Raises:
            FileError: the channels are not those of the model, or a slice is larger than memory allows.
        """
        metadata = self.model.metadata
        image = match_channels(scan_to_uint8(scan), scan, len(metadata.channels))
        slices, height, width = scan.shape
        placement = place((height, width), metadata.size, metadata.fit)
        area = placement.canvas[0] * placement.canvas[1]
        if area > MAX_CANVAS[self.model.device]:
            what = f"has slices of {width} x {height}, which are too large for this model at once"
            raise FileError(scan.source, what, "crop them, or train with `--fit scale`")
        mask = np.empty((slices, height, width), np.uint8)
        step = max(1, self._pixels // area)
        for start in range(0, slices, step):
            part = slice(start, start + step)
            for index, plane in enumerate(self._masks(fit_image(image[part], placement), placement)):
                mask[start + index] = plane
        return Segmentation(mask, image)

    def _masks(self, images: NDArray[np.uint8], placement: Placement) -> Iterator[NDArray[np.uint8]]:
        """The mask of each fitted slice, in the slice's own size."""
        if not placement.is_scaled:
            yield from unfit_mask(self.model.masks(images), placement)
            return
        for probability in self.model.probabilities(images):
            yield _most_probable(probability, placement)


def match_channels(image: NDArray[np.uint8], scan: Scan, wanted: int) -> NDArray[np.uint8]:
    """Bring `[S, H, W, C]` to the channels of a model.

    Alpha is left out; one channel is repeated, as the dataset does for a missing sequence; equal channels
    (grey saved as RGB) become one. A repeated channel is a view.

    Raises:
        FileError: any other difference.
    """
    if scan.channels[-1] == "alpha":
        image = image[..., :-1]
    have = image.shape[-1]
    if have == wanted:
        return image
    if have == 1:
        return np.broadcast_to(image, (*image.shape[:-1], wanted))
    if wanted == 1 and all(np.array_equal(image[..., 0], image[..., index]) for index in range(1, have)):
        return image[..., :1]
    raise FileError(
        scan.source, f"has {have} channels, the model takes {wanted}", "choose the files or a model that fit"
    )


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
