"""The Open Inference Protocol, by tritonclient's own HTTP client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from segkit import __version__
from tests.serving.conftest import Server, picture, serving
from tests.threshold_model import expected_classes

triton = pytest.importorskip("tritonclient.http")
from tritonclient.utils import InferenceServerException  # noqa: E402

ADMIN = "admin-token-0123456789"


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[object]:
    with triton.InferenceServerClient(server.host) as client:
        yield client


def image_input(pixels: np.ndarray, *, binary: bool = True) -> object:
    tensor = triton.InferInput("image", list(pixels.shape), "UINT8")
    tensor.set_data_from_numpy(pixels, binary_data=binary)
    return tensor


PIXELS = np.stack([picture(seed) for seed in range(3)])
MASKS = expected_classes(PIXELS[..., 0])


def test_health_and_metadata(client: object) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("three")
    assert client.is_model_ready("three", "1")
    assert not client.is_model_ready("none")
    server = client.get_server_metadata()
    assert (server["name"], server["version"]) == ("segkit", __version__)
    model = client.get_model_metadata("four", "1")
    assert model["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, -1, -1, 1]}]
    assert {output["name"]: output["shape"] for output in model["outputs"]} == {
        "mask": [-1, -1, -1],
        "probability": [-1, 4, -1, -1],
    }
    config = client.get_model_config("four")
    assert config["max_batch_size"] > 1
    assert config["input"][0]["data_type"] == "TYPE_UINT8"


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_infer_with_binary_and_json_tensors(client: object, binary_in: bool, binary_out: bool) -> None:
    outputs = [triton.InferRequestedOutput(name, binary_data=binary_out) for name in ("probability", "mask")]
    result = client.infer("three", [image_input(PIXELS, binary=binary_in)], outputs=outputs, request_id="42")
    np.testing.assert_array_equal(result.as_numpy("mask"), MASKS)
    probability = result.as_numpy("probability")
    assert probability.dtype == np.float32
    np.testing.assert_array_equal(probability.argmax(axis=1), MASKS)
    response = result.get_response()
    assert (response["id"], response["model_name"], response["model_version"]) == ("42", "three", "1")


@pytest.mark.parametrize("sent", [None, "gzip", "deflate"])
@pytest.mark.parametrize("received", [None, "gzip", "deflate"])
def test_infer_with_compression(client: object, sent: str | None, received: str | None) -> None:
    result = client.infer(
        "three",
        [image_input(PIXELS)],
        request_compression_algorithm=sent,
        response_compression_algorithm=received,
    )
    np.testing.assert_array_equal(result.as_numpy("mask"), MASKS)


def test_many_requests_at_once_are_each_answered_right(server: Server) -> None:
    with triton.InferenceServerClient(server.host, concurrency=8) as client:
        stacks = [np.stack([picture(10 * n + k) for k in range(n % 3 + 1)]) for n in range(24)]
        waiting = [client.async_infer("three", [image_input(stack)]) for stack in stacks]
        for stack, one in zip(stacks, waiting, strict=True):
            np.testing.assert_array_equal(one.get_result().as_numpy("mask"), expected_classes(stack[..., 0]))
    text = httpx.get(f"{server.url}metrics").text
    batches = next(line for line in text.splitlines() if line.startswith('segkit_batch_slices_sum{model="three"}'))
    assert float(batches.split()[1]) > 0


@pytest.mark.parametrize(
    ("model", "pixels", "words"),
    [
        ("none", PIXELS, "no such model"),
        ("three", PIXELS[..., :1], "shape"),
        ("three", PIXELS[:, :16], "shape"),
        ("three", np.zeros((65, 32, 32, 3), np.uint8), "65 slices"),
    ],
)
def test_errors_are_the_clients_own(client: object, model: str, pixels: np.ndarray, words: str) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.infer(model, [image_input(np.ascontiguousarray(pixels))])
    assert words in str(caught.value)


def test_json_by_hand_as_the_protocol_has_it(server: Server) -> None:
    pixels = picture(0, (32, 32))[None]
    body = {"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 32, 32, 3], "data": pixels.tolist()}]}
    answer = httpx.post(f"{server.url}v2/models/three/versions/1/infer", json=body).json()
    assert answer["model_name"] == "three"
    mask = next(output for output in answer["outputs"] if output["name"] == "mask")
    assert mask["shape"] == [1, 32, 32]
    np.testing.assert_array_equal(np.reshape(mask["data"], (1, 32, 32)), expected_classes(pixels[..., 0]))


def test_index_load_and_unload_by_an_administrator(tmp_path: Path, models: Path, client: object) -> None:
    with pytest.raises(InferenceServerException, match="admin-token-file"):
        client.unload_model("three")
    (tmp_path / "admins").write_text(f"{ADMIN}\n")
    with serving(
        tmp_path / "run", "--model", models / "three.onnx", "--admin-token-file", tmp_path / "admins"
    ) as running:
        headers = {"Authorization": f"Bearer {ADMIN}"}
        with triton.InferenceServerClient(running.host) as admin:
            assert admin.get_model_repository_index() == [
                {"name": "three", "version": "1", "state": "READY", "reason": ""}
            ]
            with pytest.raises(InferenceServerException, match="administrator"):
                admin.unload_model("three")
            admin.unload_model("three", headers=headers)
            assert not admin.is_model_ready("three")
            assert admin.get_model_repository_index()[0]["state"] == "UNAVAILABLE"
            admin.load_model("three", headers=headers)
            assert admin.is_model_ready("three")
            with pytest.raises(InferenceServerException, match="no such model"):
                admin.load_model("absent", headers=headers)
            with pytest.raises(InferenceServerException, match="not taken"):
                admin.load_model("three", headers=headers, config=json.dumps({"backend": "python"}))
