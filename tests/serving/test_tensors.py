from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from segkit.serving.config import Limits
from segkit.serving.errors import RequestError
from segkit.serving.tensors import parse, render
from tests.threshold_model import threshold_metadata

METADATA = threshold_metadata()
LIMITS = Limits(max_megavoxels=1.0, max_slices=8)
PIXELS = np.arange(2 * 32 * 32 * 3, dtype=np.uint8).reshape(2, 32, 32, 3)


def content(**changes: Any) -> dict[str, Any]:
    tensor = {"name": "image", "datatype": "UINT8", "shape": [2, 32, 32, 3], "data": PIXELS.ravel().tolist()}
    return {"inputs": [{**tensor, **changes}]}


def parsed(value: Any) -> Any:
    return parse(json.dumps(value).encode(), None, METADATA, LIMITS)


def test_flat_nested_and_binary_data_are_the_same_tensor() -> None:
    flat = parsed(content())
    nested = parsed(content(data=PIXELS.tolist()))
    tensor = {**content()["inputs"][0], "data": None, "parameters": {"binary_data_size": PIXELS.size}}
    head = json.dumps({"id": "7", "inputs": [tensor]}).encode()
    binary = parse(head + PIXELS.tobytes(), str(len(head)), METADATA, LIMITS)
    for one in (flat, nested, binary):
        np.testing.assert_array_equal(one.images, PIXELS)
    assert binary.identifier == "7"
    assert flat.outputs == ("mask", "probability")


def test_outputs_are_those_that_are_asked_for() -> None:
    outputs = [{"name": "probability", "parameters": {"binary_data": True}}, {"name": "mask"}]
    one = parsed({**content(), "outputs": outputs, "parameters": {"timeout": 2_000_000}})
    assert one.outputs == ("probability", "mask")
    assert one.binary == (True, False)
    assert one.timeout_s == 2
    arrays = {"mask": np.ones((1, 2, 2), np.uint8), "probability": np.full((1, 2, 2, 2), 0.5, np.float32)}
    body, length = render(one, "m", "3", arrays)
    head = json.loads(body[:length])
    assert head["model_version"] == "3"
    assert head["outputs"][1]["data"] == [1, 1, 1, 1]
    assert head["outputs"][0]["parameters"]["binary_data_size"] == 32
    np.testing.assert_array_equal(np.frombuffer(body[length:], "<f4"), np.full(8, 0.5))


@pytest.mark.parametrize(
    ("value", "status", "words"),
    [
        ([], 400, "object"),
        ({}, 400, "inputs"),
        ({"inputs": "all"}, 400, "inputs"),
        ({"inputs": [1]}, 400, "inputs"),
        (content(name="picture"), 400, "image"),
        (content(datatype="FP32"), 400, "UINT8"),
        (content(shape=[2, 32, 32]), 400, "shape"),
        (content(shape=[2, 32, 32, 1]), 400, "shape"),
        (content(shape=[0, 32, 32, 3]), 400, "shape"),
        (content(shape=[2, 16, 32, 3]), 400, "32"),
        (content(shape=[2, 32.0, 32, 3]), 400, "shape"),
        (content(shape=[2, True, 32, 3]), 400, "shape"),
        (content(shape=[1, 32, 32, 3]), 400, "values"),
        (content(shape=[9, 32, 32, 3]), 413, "slices"),
        (content(shape=[1, 40000, 40000, 3]), 413, "claims"),
        (content(data=[[1, 2], [3]]), 400, "ragged"),
        (content(data=[256] * PIXELS.size), 400, "255"),
        (content(data=[-1] * PIXELS.size), 400, "255"),
        (content(data=[0.5] * PIXELS.size), 400, "whole"),
        (content(data=["a"] * PIXELS.size), 400, "whole"),
        (content(data={"a": 1}), 400, "whole"),
        (content(parameters={"binary_data_size": 5}), 400, "binary_data_size"),
        (content(parameters={"shared_memory_region": "x"}), 400, "shared_memory_region"),
        ({**content(), "parameters": {"sequence_id": 1}}, 400, "sequence_id"),
        ({**content(), "parameters": {"timeout": "soon"}}, 400, "timeout"),
        ({**content(), "parameters": 3}, 400, "parameters"),
        ({**content(), "outputs": [{"name": "edges"}]}, 400, "outputs"),
        ({**content(), "outputs": [{"name": "mask"}, {"name": "mask"}]}, 400, "outputs"),
        ({**content(), "outputs": [{"name": "mask", "parameters": {"classification": 3}}]}, 400, "classification"),
        ({**content(), "outputs": [{"name": ["mask"]}]}, 400, "outputs"),
    ],
)
def test_what_is_wrong_is_told(value: Any, status: int, words: str) -> None:
    with pytest.raises(RequestError) as caught:
        parsed(value)
    assert caught.value.status == status, caught.value
    assert words in caught.value.reason


@pytest.mark.parametrize(
    ("body", "header"),
    [
        (b"", None),
        (b"{", None),
        (b"\xff\xfe", None),
        (b"[" * 100000, None),
        (b"{}", "3"),
        (b"{}", "-1"),
        (b"{}", "one"),
        (b'{"inputs": NaN}', None),
    ],
)
def test_bodies_that_are_no_requests_are_refused(body: bytes, header: str | None) -> None:
    with pytest.raises(RequestError) as caught:
        parse(body, header, METADATA, LIMITS)
    assert caught.value.status == 400
