"""A hand-made ONNX model that keeps segkit's contract and whose mask is known: thresholds on one channel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, save

from segkit.model_metadata import ModelMetadata

CLASS_NAMES = ("background", "tumour", "edema", "necrosis")


def threshold_metadata(
    channels: int = 3, classes: int = 2, size: tuple[int, int] = (64, 64), fit: str = "scale"
) -> ModelMetadata:
    """Metadata for `write_threshold_model`; two classes have the mask values 0 and 255."""
    values = (0, 255) if classes == 2 else tuple(range(classes))
    names = tuple(f"c{index}" for index in range(channels))
    return ModelMetadata("threshold", 1, CLASS_NAMES[:classes], names, size, fit, values, run_id="handmade")


def expected_classes(values: NDArray[np.uint8], classes: int = 2) -> NDArray[np.uint8]:
    """What the model says of pixel values: equal steps from black to white."""
    return (values.astype(np.int32) * classes // 256).astype(np.uint8)


def write_threshold_model(path: Path, metadata: ModelMetadata | None = None, *, channel: int = 0) -> Path:
    """Write a model whose class is `expected_classes` of one channel, with probability 1."""
    metadata = metadata or threshold_metadata()
    count = len(metadata.classes)
    constants = {
        "channel": np.array(channel, np.int64),
        "factor": np.array(count / 256, np.float32),
        "depth": np.array(count, np.int64),
        "off_on": np.array([0, 1], np.float32),
    }
    nodes = [
        helper.make_node("Gather", ["image", "channel"], ["plane"], axis=3),
        helper.make_node("Cast", ["plane"], ["grey"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["grey", "factor"], ["scaled"]),
        helper.make_node("Floor", ["scaled"], ["step"]),
        helper.make_node("Cast", ["step"], ["mask"], to=TensorProto.UINT8),
        helper.make_node("Cast", ["step"], ["index"], to=TensorProto.INT64),
        helper.make_node("OneHot", ["index", "depth", "off_on"], ["probability"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "threshold",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", "H", "W", len(metadata.channels)])],
        [
            helper.make_tensor_value_info("mask", TensorProto.UINT8, ["N", "H", "W"]),
            helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["N", count, "H", "W"]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, metadata.to_props())
    save(model, str(path))
    return path
