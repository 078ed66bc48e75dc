"""What those who run the server rely on: metrics, the description, the files for containers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from segkit.config import from_mapping
from segkit.serving.config import BatchConfig, Limits, ServerConfig
from segkit.serving.openapi import description
from tests.conftest import ROOT
from tests.serving.conftest import Server, decoded, encoded, picture, serving

DOCKER = ROOT / "docker"


def families(server: Server) -> dict[str, Any]:
    text = httpx.get(f"{server.url}metrics").text
    return {family.name: family for family in text_string_to_metric_families(text)}


def test_metrics_are_what_prometheus_reads(server: Server) -> None:
    server.post(encoded(picture()))
    found = families(server)
    for name in ("request_seconds", "queue_seconds", "compute_seconds", "decode_seconds", "batch_slices"):
        family = found[f"segkit_{name}"]
        assert family.type == "histogram"
        assert any(sample.name.endswith("_count") and sample.value > 0 for sample in family.samples), name
    assert {"segkit_gpu_memory_used_bytes", "segkit_gpu_utilisation_ratio"} <= set(found)
    assert found["segkit_requests_in_work"].samples[0].value == 0
    routes = {sample.labels["route"] for sample in found["segkit_requests"].samples}
    assert "/segment" in routes
    httpx.get(f"{server.url}some/secret/name.tif")
    assert "name.tif" not in httpx.get(f"{server.url}metrics").text


def test_every_route_is_described_and_nothing_else(server: Server) -> None:
    document = httpx.get(f"{server.url}openapi.json").json()
    assert document == description()
    assert document["openapi"].startswith("3.1")
    described = {(path, method) for path, methods in document["paths"].items() for method in methods}
    described = {(path, method) for path, method in described if method in ("get", "post")}
    for path, method in described:
        url = server.url.rstrip("/") + path.replace("{name}", "three").replace("{version}", "1")
        response = httpx.request(method, url)
        assert response.status_code not in (404, 405, 500), (path, method)
        wrong = httpx.request("get" if method == "post" else "post", url)
        assert wrong.status_code == 405, (path, method)
    script = "from segkit.serving.app import *; from segkit.serving.app import _routes; import json;"
    script += "print(json.dumps([(r.path, sorted(r.methods - {'HEAD'})[0].lower()) for r in _routes(*[None] * 4)]))"
    routes = {tuple(pair) for pair in json.loads(subprocess.check_output([sys.executable, "-c", script]))}
    pages = {(path, method) for path, method in routes if path in ("/", "/docs", "/openapi.json") or "/page/" in path}
    assert routes - pages == described


def test_operations_have_names_of_their_own_and_references_that_exist() -> None:
    document = description()
    operations = [
        one["operationId"]
        for methods in document["paths"].values()
        for method, one in methods.items()
        if method != "parameters"
    ]
    assert len(set(operations)) == len(operations)
    for reference in re.findall(r"'#/components/schemas/(\w+)'", str(document)):
        assert reference in document["components"]["schemas"]


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def check_arguments(words: list[str]) -> None:
    """Whether the words are `serve` and flags that it knows, with these values."""
    assert words[0] == "serve"
    fields = {field for kind in (ServerConfig, BatchConfig, Limits) for field in kind.__dataclass_fields__}
    for flag in (word for word in words if word.startswith("--")):
        name = flag.removeprefix("--").partition("=")[0].replace("-", "_")
        assert name in fields | {"repository", "model"}, flag


def test_compose_starts_the_server_with_flags_that_it_has() -> None:
    (compose,) = documents(DOCKER / "compose.yaml")
    segkit, triton = compose["services"]["segkit"], compose["services"]["triton"]
    check_arguments(segkit["command"])
    dockerfile = (DOCKER / segkit["build"]["context"] / segkit["build"]["dockerfile"]).read_text()
    assert f"AS {segkit['build']['target']}\n" in dockerfile
    assert all(port.startswith("127.0.0.1:") for port in (*segkit["ports"], *triton["ports"]))
    assert int(segkit["stop_grace_period"].rstrip("s")) > ServerConfig().shutdown_s


@pytest.mark.parametrize("name", ["segkit-serve.yaml", "kserve.yaml"])
def test_manifests_ask_for_what_the_server_has(server: Server, name: str) -> None:
    found = documents(DOCKER / "kubernetes" / name)
    assert all({"apiVersion", "kind", "metadata", "spec"} <= set(document) for document in found)
    kinds = [document["kind"] for document in found]
    if name == "kserve.yaml":
        assert kinds == ["InferenceService", "InferenceService"]
        assert found[1]["spec"]["predictor"]["model"]["protocolVersion"] == "v2"
        containers = found[0]["spec"]["predictor"]["containers"]
        assert containers[0]["name"] == "kserve-container"  # KServe finds the predictor by this name
    else:
        assert {"Deployment", "Service"} <= set(kinds)
        pod = next(document for document in found if document["kind"] == "Deployment")["spec"]["template"]["spec"]
        assert pod["terminationGracePeriodSeconds"] > 120
        containers = pod["containers"]
    for container in containers:
        check_arguments(container["args"])
        probes = [probe for key, probe in container.items() if key.endswith("Probe")]
        assert len(probes) >= 2
        for probe in probes:
            assert httpx.get(server.url.rstrip("/") + probe["httpGet"]["path"]).status_code == 200


def test_without_a_model_it_serves_the_default_one(tmp_path: Path) -> None:
    case = ROOT / "tests" / "inference" / "pretrained_case"
    with serving(tmp_path) as server:
        answer = server.post((case / "scan.png").read_bytes())
    assert answer.headers["X-Model"] == "lgg-unet-int8/1"
    expected = decoded((case / "lgg-unet-int8_mask.png").read_bytes()) > 0
    assert ((decoded(answer.content) > 0) != expected).mean() < 0.001


def test_serve_without_its_packages_says_what_to_install(tmp_path: Path, segkit: Callable[..., Any]) -> None:
    (tmp_path / "starlette.py").write_text("raise ModuleNotFoundError('gone', name='starlette')")
    (tmp_path / "model.onnx").write_bytes(b"")
    result = segkit("serve", "--model", "model.onnx", PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert result.returncode == 2
    assert result.stderr.strip() == "segkit: serve needs the package starlette; pip install 'segkit[serve]'"


def test_help_has_every_setting_with_its_default(segkit: Callable[..., Any]) -> None:
    text = segkit("serve", "--help", COLUMNS="200", TERM="dumb").stdout
    for kind in (ServerConfig, BatchConfig, Limits):
        for name in kind.__dataclass_fields__:
            assert f"--{name.replace('_', '-')}" in text
    assert from_mapping(Limits, {}, "serve") == Limits()
