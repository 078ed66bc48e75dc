"""The ONNX model's contract: the names of its tensors and the metadata that travels inside the file.

Export writes it, inference reads it; both sides use this one description.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

INPUT = "image"  # uint8 [N, H, W, C], N >= 1, H and W >= 32
MASK = "mask"  # uint8 [N, H, W], class index
PROBABILITY = "probability"  # float32 [N, K, H, W], softmax over K classes
STRIDE = 32  # the nets pool five times; the graph pads to a multiple of this


@dataclass(frozen=True)
class ModelMetadata:
    """What a client needs to know of a model beyond its tensors."""

    model: str  # registry name: unet, fcn, segnet
    width: int
    classes: tuple[str, ...]  # name of each class index, background first
    channels: tuple[str, ...]  # name of each input channel
    size: tuple[int, int]  # training size, height and width in pixels
    fit: str  # how a slice of another size is brought to `size`: "scale" or "pad" (imaging/fit.py)
    mask_values: tuple[int, ...]  # value of each class in a TIFF or PNG mask, as the dataset has them
    metrics: dict[str, Any] = field(default_factory=dict)
    split_sha256: str = ""
    run_id: str = ""
    licence: str = ""
    segkit: str = ""  # version of segkit that exported the model
    pixel_mm: tuple[float, float] | None = None  # height and width of a training pixel; None where unknown or mixed
    plane: str = ""  # of the training slices (imaging/planes.py); "" where unknown
    half: bool = False  # whether the graph sees each slice at half the resolution, too (models/deployed.py)
    # What suits it in volumes, chosen on patients that it was not trained on (inference/volume_rule.py):
    flip: bool = False
    smooth: float = 0.0
    threshold: float | None = None
    min_lesion: str = ""

    def to_props(self) -> dict[str, str]:
        """The fields as `metadata_props`: each value as JSON, each key prefixed with `segkit.`."""
        return {f"segkit.{key}": json.dumps(value) for key, value in vars(self).items()}

    @classmethod
    def from_props(cls, props: dict[str, str]) -> ModelMetadata:
        """The inverse of `to_props`. Raises KeyError or ValueError where a required field is absent or not JSON."""
        values = {
            key.removeprefix("segkit."): json.loads(text) for key, text in props.items() if key.startswith("segkit.")
        }
        known = {key: values[key] for key in cls.__dataclass_fields__ if key in values}
        for key in ("model", "width", "classes", "channels", "size", "fit", "mask_values"):
            if key not in known:
                raise KeyError(f"segkit.{key}")
        for key in ("classes", "channels", "size", "mask_values", "pixel_mm"):
            if known.get(key) is not None:
                known[key] = tuple(known[key])
        return cls(**known)
