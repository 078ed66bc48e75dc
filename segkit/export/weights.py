"""Weights stored in fewer bits and widened when the model is loaded: smaller files that are as fast as before.

The arithmetic stays in float32 (CPUs have none in float16), so that such a model decides like the one it was made of
but for the rounding of its weights. ONNX Runtime computes what depends on constants alone once, when it loads a model.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from segkit.files import atomic_path

_SMALLEST = 64  # elements: smaller constants (shapes, levels) stay as they are
_LARGEST_INT8 = 127
_OUTPUT_AXIS = {"Conv": 0, "ConvTranspose": 1}  # of the kernel


def halve_weights(source: Path, target: Path) -> None:
    """Write `source` with its float32 weights as float16 to `target`, atomically: half the size."""
    model = onnx.load(source)
    widening: list[NodeProto] = []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < _SMALLEST:
            continue
        name, half = tensor.name, f"{tensor.name}.half"
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), half))
        widening.append(helper.make_node("Cast", [half], [name], to=TensorProto.FLOAT))
    _write(model, widening, target)


def quarter_weights(source: Path, target: Path) -> None:
    """Write `source` with the kernels of its convolutions as int8 to `target`, atomically: a quarter of the size.

    Each output channel has a scale of its own, its largest weight being 127 (Krishnamoorthi, Quantizing deep
    convolutional networks for efficient inference, 2018, arXiv:1806.08342, section 3.1.3).
    """
    model = onnx.load(source)
    output_axes = {
        node.input[1]: _OUTPUT_AXIS[node.op_type] for node in model.graph.node if node.op_type in _OUTPUT_AXIS
    }
    widening: list[NodeProto] = []
    for tensor in list(model.graph.initializer):
        if tensor.name not in output_axes:
            continue
        name, integers, scale, widened = (f"{tensor.name}{part}" for part in ("", ".integers", ".scale", ".widened"))
        rounded, scales = _rounded(numpy_helper.to_array(tensor), output_axes[name])
        tensor.CopyFrom(numpy_helper.from_array(rounded, integers))
        model.graph.initializer.append(numpy_helper.from_array(scales, scale))
        widening.append(helper.make_node("Cast", [integers], [widened], to=TensorProto.FLOAT))
        widening.append(helper.make_node("Mul", [widened, scale], [name]))
    _write(model, widening, target)


def _rounded(kernel: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """A kernel in integers, and what they are multiples of: a scale for each index of `axis`."""
    others = tuple(other for other in range(kernel.ndim) if other != axis)
    largest = np.abs(kernel).max(axis=others, keepdims=True)
    scales = (np.where(largest > 0, largest, 1) / _LARGEST_INT8).astype(np.float32)
    return np.rint(kernel / scales).astype(np.int8), scales


def _write(model: onnx.ModelProto, widening: list[NodeProto], target: Path) -> None:
    """The model with nodes before all others, as these are sorted by what they need."""
    for node in reversed(widening):
        model.graph.node.insert(0, node)
    with atomic_path(target) as temporary:
        onnx.save(model, temporary)
