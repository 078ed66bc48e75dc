"""Tensors of the Open Inference Protocol, as JSON and as binary data behind it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segkit.model_metadata import INPUT, MASK, PROBABILITY, STRIDE, ModelMetadata
from segkit.serving.claims import Claims
from segkit.serving.config import MEGA, Limits
from segkit.serving.errors import RequestError

HEADER = "Inference-Header-Content-Length"
_MAX_JSON = 16 * MEGA  # bytes: parsed numbers take some ten times as much
_DATATYPES = {MASK: "UINT8", PROBABILITY: "FP32"}
_UNSUPPORTED = ("sequence_id", "shared_memory_region", "classification")


@dataclass(frozen=True)
class InferRequest:
    """What is to be computed."""

    identifier: str
    images: NDArray[np.uint8]  # [N, H, W, C]
    outputs: tuple[str, ...]
    binary: tuple[bool, ...]  # for each output
    timeout_s: float | None


def parse(body: bytes, header: str | None, metadata: ModelMetadata, limits: Limits) -> InferRequest:
    """Read the body of an infer request. Blocks.

    Raises:
        RequestError: 400 with what is wrong, 413 too large.
    """
    content, data = _split(body, header)
    _refuse_unsupported(content)
    parameters = _mapping(content, "parameters")
    outputs, binary = _outputs(content, bool(parameters.get("binary_data_output", False)))
    timeout = parameters.get("timeout")
    if timeout is not None and (not isinstance(timeout, int) or timeout < 0):
        raise RequestError(400, "the parameter timeout is no number of microseconds")
    return InferRequest(
        str(content.get("id", ""))[:128],
        _image(content, data, metadata, limits),
        outputs,
        binary,
        timeout / 1e6 if timeout else None,
    )


def render(request: InferRequest, name: str, version: str, arrays: dict[str, NDArray[Any]]) -> tuple[bytes, int]:
    """The body of the answer, and the length of its JSON part where binary data follow it, else 0. Blocks."""
    described, tails = [], []
    for output, binary in zip(request.outputs, request.binary, strict=True):
        array = arrays[output]
        one: dict[str, Any] = {"name": output, "datatype": _DATATYPES[output], "shape": list(array.shape)}
        if binary:
            tails.append(np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
            one["parameters"] = {"binary_data_size": len(tails[-1])}
        else:
            one["data"] = array.ravel().tolist()
        described.append(one)
    content: dict[str, Any] = {"model_name": name, "model_version": version, "outputs": described}
    if request.identifier:
        content["id"] = request.identifier
    head = json.dumps(content, separators=(",", ":")).encode()
    return b"".join([head, *tails]), len(head) if tails else 0


def _split(body: bytes, header: str | None) -> tuple[dict[str, Any], bytes]:
    length = len(body)
    if header is not None:
        if not header.isdecimal() or int(header) > len(body):
            raise RequestError(400, f"{HEADER} is no length of a part of the body")
        length = int(header)
    if length > _MAX_JSON:
        raise RequestError(413, f"the JSON part is longer than {_MAX_JSON // MEGA} MB; send tensors as binary data")
    try:
        content = json.loads(body[:length])
    except (ValueError, RecursionError):
        raise RequestError(400, "the body is not JSON") from None
    if not isinstance(content, dict):
        raise RequestError(400, "the body is no JSON object")
    return content, body[length:]


def _refuse_unsupported(content: dict[str, Any]) -> None:
    for part in (content, *_list(content, "inputs"), *_list(content, "outputs")):
        for name in _mapping(part, "parameters"):
            if name in _UNSUPPORTED:
                raise RequestError(400, f"the parameter {name} is not supported")


def _outputs(content: dict[str, Any], binary: bool) -> tuple[tuple[str, ...], tuple[bool, ...]]:
    wanted = _list(content, "outputs") or [{"name": MASK}, {"name": PROBABILITY}]
    names = tuple(str(part.get("name")) for part in wanted)
    if not set(names) <= set(_DATATYPES) or len(set(names)) != len(names):
        raise RequestError(400, f"the outputs are not each once {' or '.join(_DATATYPES)}")
    flags = tuple(bool(_mapping(part, "parameters").get("binary_data", binary)) for part in wanted)
    return names, flags


def _image(content: dict[str, Any], data: bytes, metadata: ModelMetadata, limits: Limits) -> NDArray[np.uint8]:
    inputs = _list(content, "inputs")
    if len(inputs) != 1 or inputs[0].get("name") != INPUT:
        raise RequestError(400, f"the inputs are not one tensor named {INPUT}")
    (tensor,) = inputs
    if tensor.get("datatype") != "UINT8":
        raise RequestError(400, f"{INPUT} is not of datatype UINT8")
    shape = _shape(tensor.get("shape"), len(metadata.channels))
    count, height, width, channels = shape
    Claims("tensor", count, height, width, channels).check(limits)
    size = _mapping(tensor, "parameters").get("binary_data_size")
    values = _numbers(tensor.get("data")) if size is None else _binary(data, size)
    if values.size != count * height * width * channels:
        raise RequestError(400, f"{INPUT} has {values.size} values, its shape {list(shape)} has others")
    return values.reshape(shape)


def _shape(value: Any, channels: int) -> tuple[int, int, int, int]:
    whole = isinstance(value, list) and len(value) == 4 and all(type(length) is int for length in value)
    if not whole or value[0] < 1 or min(value[1:3]) < STRIDE or value[3] != channels:
        raise RequestError(400, f"the shape of {INPUT} is not [N, H, W, {channels}], N >= 1, H and W >= {STRIDE}")
    return value[0], value[1], value[2], value[3]


def _binary(data: bytes, size: Any) -> NDArray[np.uint8]:
    if size != len(data):
        raise RequestError(400, f"{INPUT} says binary_data_size {str(size)[:20]}, but {len(data)} bytes follow")
    return np.frombuffer(data, np.uint8)


def _numbers(data: Any) -> NDArray[np.uint8]:
    """Flat or nested lists of numbers from 0 to 255."""
    try:
        array = np.array(data)
    except ValueError:
        raise RequestError(400, f"the data of {INPUT} are ragged") from None
    if array.dtype.kind not in "iu" or (array.size and not 0 <= array.min() <= array.max() <= 255):
        raise RequestError(400, f"the data of {INPUT} are not all whole numbers from 0 to 255")
    return array.astype(np.uint8).ravel()


def _list(content: dict[str, Any], key: str) -> list[dict[str, Any]]:
    value = content.get(key) or []
    if not isinstance(value, list) or not all(isinstance(part, dict) for part in value):
        raise RequestError(400, f"{key} is no list of objects")
    return value


def _mapping(content: dict[str, Any], key: str) -> dict[str, Any]:
    value = content.get(key) or {}
    if not isinstance(value, dict):
        raise RequestError(400, f"{key} is no object")
    return value
