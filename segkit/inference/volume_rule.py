"""How a volume's mask is made of what the net says: mirrored slices, neighbours, a threshold, a least lesion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segkit.errors import ConfigError
from segkit.inference.postprocess import LesionSize
from segkit.inference.smoothing import MAX_SMOOTH
from segkit.model_metadata import ModelMetadata

NO_LEAST = LesionSize()


@dataclass(frozen=True)
class VolumeRule:
    """What is made of the probabilities of a volume's slices.

    Attributes:
        flip: the net sees each slice mirrored, too, left to right, and the mean of both counts.
        smooth: standard deviation, in slices, of a Gaussian over the probabilities of neighbouring slices.
        threshold: a voxel whose classes beside the background have more than this probability together is of
            the most probable of them; None: every voxel is of its most probable class.
        min_lesion: least size of a lesion.
    """

    flip: bool = False
    smooth: float = 0.0
    threshold: float | None = None
    min_lesion: LesionSize = NO_LEAST

    def __post_init__(self) -> None:
        if not 0 <= self.smooth <= MAX_SMOOTH:
            raise ConfigError("smooth", self.smooth, f"slices from 0 to {MAX_SMOOTH:g}")
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise ConfigError("threshold", self.threshold, "a probability between 0 and 1")

    @classmethod
    def of(cls, metadata: ModelMetadata) -> VolumeRule:
        """The rule that a model brings along. Raises ConfigError where it is none."""
        return cls(metadata.flip, metadata.smooth, metadata.threshold, LesionSize.parse(metadata.min_lesion or "0"))

    def as_metadata(self) -> dict[str, Any]:
        """The fields of `ModelMetadata` that hold it."""
        return {**vars(self), "min_lesion": str(self.min_lesion) if self.min_lesion else ""}

    def __str__(self) -> str:
        parts = [
            "mean with the mirrored slice" if self.flip else "",
            f"smoothed over {self.smooth:g} slices" if self.smooth else "",
            f"probability over {self.threshold:g}" if self.threshold is not None else "",
            f"no lesion under {self.min_lesion.in_words}" if self.min_lesion else "",
        ]
        return ", ".join(part for part in parts if part) or "each slice for itself"

    @property
    def needs_probabilities(self) -> bool:
        """Whether class indices are not enough to go by."""
        return self.flip or bool(self.smooth) or self.threshold is not None

    def decide(self, probability: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Classes `[...]` of probabilities `[K, ...]`, which are smoothed already."""
        if self.threshold is None:
            most: NDArray[np.uint8] = probability.argmax(axis=0).astype(np.uint8)
            return most
        classes: NDArray[np.uint8] = probability[1:].argmax(axis=0).astype(np.uint8) + np.uint8(1)
        classes[1 - probability[0] <= self.threshold] = 0
        return classes
