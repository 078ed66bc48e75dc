"""An exported model in 8-bit integers: smaller, and faster on CPUs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from segkit.export.onnx_model import quiet, read_metadata, set_metadata
from segkit.export.rewrite import upsample_by_convolution
from segkit.files import atomic_path
from segkit.model_metadata import INPUT

# Relu, because a convolution's output is then rounded once, after it: in between half of its 8 bits would be spent on
# what Relu cuts off, and the step between the two scales takes as long as a small convolution.
_OPERATORS = ["Conv", "Relu", "MaxPool", "Reshape", "Transpose", "Concat"]
PERCENTILES = (99.999, 99.99)  # of the activations, that their 8 bits can span; which suits, differs from net to net

Images = NDArray[np.uint8]


def quantise_int8(
    source: Path, target: Path, calibration: Iterable[Images], percentile: float = PERCENTILES[0]
) -> None:
    """Write `source` with its convolutions in 8-bit integers to `target`, atomically; the metadata stay.

    Static, per channel; the ranges of activations come from `calibration`: batches uint8 [N, H, W, C] of real
    slices of one size, of any number each. A range ends at a `percentile` of its values, as a single bright voxel would
    coarsen all others. The first convolution, whose input has a long tail of bright tissue, and the last, whose logits
    decide a mask, stay in float32. Transposed convolutions become ordinary ones, so that all between the two is
    computed in integers. Weights use 7 of their 8 bits: processors without VNNI add pairs of products in 16 bits, which
    would overflow with all 8.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder, atomic_path(target) as temporary:
        prepared = Path(folder) / "prepared.onnx"
        with quiet():
            # Symbolic shape inference fails on sizes that are computed in the graph (padding, cropping).
            quant_pre_process(source, prepared, skip_symbolic_shape=True)
            model = onnx.load(prepared)
            upsample_by_convolution(model)
            onnx.save(model, prepared)
            quantize_static(
                prepared,
                temporary,
                _Reader(calibration),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=_OPERATORS,
                nodes_to_exclude=_first_and_last_convolution(model),
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.Percentile,
                extra_options={"CalibPercentile": percentile},
            )
        set_metadata(temporary, read_metadata(source))


class _Reader:
    """Calibration slices as ONNX Runtime asks for them: one at a time, as it stacks what comes of them."""

    def __init__(self, batches: Iterable[Images]) -> None:
        self._slices = (batch[at : at + 1] for batch in batches for at in range(len(batch)))

    def get_next(self) -> dict[str, Any] | None:
        one = next(self._slices, None)
        return None if one is None else {INPUT: np.ascontiguousarray(one)}


def _first_and_last_convolution(model: onnx.ModelProto) -> list[str]:
    """By their weights: a net that sees each slice twice has both of them twice."""
    convolutions = [node for node in model.graph.node if node.op_type in ("Conv", "ConvTranspose")]
    weights = {convolutions[0].input[1], convolutions[-1].input[1]}
    return [node.name for node in convolutions if node.input[1] in weights]
