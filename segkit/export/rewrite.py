"""Rewrite a graph into operators that have kernels in 8-bit integers, computing the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper


def upsample_by_convolution(model: onnx.ModelProto) -> int:
    """Replace each transposed convolution whose kernel is its stride by a 1 x 1 convolution and a rearrangement.

    Its outputs do not overlap: each is the product of one input pixel's channels with one tap of the kernel (Shi et
    al., Is the deconvolution layer the same as a convolutional layer?, 2016, arXiv:1609.07009). ONNX Runtime has no
    integer kernel for a transposed convolution. The pixels are moved with the channels last, as its integer
    convolutions have them: DepthToSpace, which wants them first, takes four times as long. In place; other nodes stay.

    Returns:
        How many were replaced.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    replaced = 0
    for at, node in reversed(list(enumerate(model.graph.node))):
        block = _block(node)
        if block is None or any(name not in constants for name in node.input[1:]):
            continue
        kernel = numpy_helper.to_array(constants[node.input[1]])
        made = {"kernel": _of_convolution(kernel)}
        if len(node.input) > 2:
            made["bias"] = np.tile(numpy_helper.to_array(constants[node.input[2]]), block**2)
        # A net that sees each slice twice shares its weights: written once, under the name of the old ones.
        names = [f"{node.input[1]}.{part}" for part in made]
        for name, values in zip(names, made.values(), strict=True):
            if name not in constants:
                constants[name] = numpy_helper.from_array(values, name)
                model.graph.initializer.append(constants[name])
        del model.graph.node[at]
        for new in reversed(list(_upsampling(node, names, block, kernel.shape[1]))):
            model.graph.node.insert(at, new)
        replaced += 1
    _forget_unused(model)
    return replaced


def _block(node: NodeProto) -> int | None:
    """The stride of a transposed convolution whose outputs do not overlap, else None."""
    if node.op_type != "ConvTranspose":
        return None
    found = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    strides = list(found.pop("strides", [1]))
    if len(strides) != 2 or len(set(strides)) != 1 or list(found.pop("kernel_shape", [])) != strides:
        return None
    plain = {"group": 1, "dilations": [1, 1], "pads": [0] * 4, "output_padding": [0, 0], "auto_pad": b"NOTSET"}
    if any(name not in plain or value != plain[name] for name, value in found.items()):
        return None
    return int(strides[0])


def _of_convolution(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    """`[Cin, Cout, b, b]` of the transposed convolution to `[b * b * Cout, Cin, 1, 1]`: row, column, channel."""
    return np.ascontiguousarray(kernel.transpose(2, 3, 1, 0).reshape(-1, len(kernel), 1, 1))


def _upsampling(node: NodeProto, weights: list[str], block: int, channels: int) -> Iterator[NodeProto]:
    """The nodes in place of one, with `channels` [C] outputs: `[N, Cin, H, W]` to `[N, C, b * H, b * W]`."""

    def name(part: str) -> str:
        return f"{node.output[0]}.{part}"

    def constant(part: str, values: list[int]) -> NodeProto:
        value = numpy_helper.from_array(np.array(values, np.int64))
        return helper.make_node("Constant", [], [name(part)], value=value)

    def compute(operator: str, sources: list[str], target: str, **attributes: Any) -> NodeProto:
        outputs = [name(target) if target else node.output[0]]
        return helper.make_node(operator, [name(source) for source in sources], outputs, outputs[0], **attributes)

    yield helper.make_node("Conv", [node.input[0], *weights], [name("deep")], node.name, kernel_shape=[1, 1])
    yield compute("Transpose", ["deep"], "last", perm=[0, 2, 3, 1])  # [N, H, W, b * b * C]
    yield constant("by_rows", [0, 0, 0, block, block * channels])  # 0: as it is
    yield compute("Reshape", ["last", "by_rows"], "rows")
    yield compute("Transpose", ["rows"], "interleaved", perm=[0, 1, 3, 2, 4])  # [N, H, b, W, b * C]
    yield helper.make_node("Shape", [node.input[0]], [name("size")])
    yield constant("not_channels", [0, 2, 3])
    yield compute("Gather", ["size", "not_channels"], "small")
    yield constant("factor", [1, block, block])
    yield compute("Mul", ["small", "factor"], "large")
    yield constant("channels", [channels])
    yield compute("Concat", ["large", "channels"], "whole", axis=0)
    yield compute("Reshape", ["interleaved", "whole"], "wide")  # [N, b * H, b * W, C]
    yield compute("Transpose", ["wide"], "", perm=[0, 3, 1, 2])


def _forget_unused(model: onnx.ModelProto) -> None:
    used = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
