"""The threshold model, slowed down by arithmetic whose result is multiplied by zero."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from segkit.model_metadata import ModelMetadata
from tests.threshold_model import write_threshold_model

_SIDE = 384


def write_slow_model(path: Path, rounds: int, metadata: ModelMetadata | None = None) -> Path:
    """As `write_threshold_model`; each run multiplies matrices `rounds` times, a few milliseconds each."""
    write_threshold_model(path, metadata)
    model = onnx.load(path)
    graph = model.graph
    matrix = (np.eye(_SIDE) * 0.5).astype(np.float32)
    graph.initializer.extend(
        numpy_helper.from_array(value, name)
        for name, value in {
            "rounds": np.array(rounds, np.int64),
            "again": np.array(True),
            "matrix": matrix,
            "zero": np.array(0, np.float32),
        }.items()
    )
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["state", "matrix"], ["next"]),
            helper.make_node("Identity", ["go"], ["go_on"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, [_SIDE, _SIDE]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [_SIDE, _SIDE]),
        ],
    )
    floor = next(node for node in graph.node if node.op_type == "Floor")
    floor.input[0] = "slowed"
    at = list(graph.node).index(floor)
    slow = [
        helper.make_node("ReduceMax", ["scaled"], ["peak"], keepdims=0),
        helper.make_node("Mul", ["peak", "matrix"], ["start"]),
        helper.make_node("Loop", ["rounds", "again", "start"], ["end"], body=body),
        helper.make_node("ReduceMax", ["end"], ["last"], keepdims=0),
        helper.make_node("Mul", ["last", "zero"], ["nothing"]),
        helper.make_node("Add", ["scaled", "nothing"], ["slowed"]),
    ]
    nodes = [*graph.node[:at], *slow, *graph.node[at:]]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.save(model, str(path))
    return path
