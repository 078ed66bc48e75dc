"""The Triton repository: parsed by tritonclient's protobuf, served by segkit, and run by a real Triton."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segkit.errors import ConfigError
from segkit.export.onnx_model import read_metadata
from segkit.export.triton import write_repository
from segkit.model_metadata import ModelMetadata
from tests.conftest import clean_environment
from tests.threshold_model import expected_classes, threshold_metadata, write_threshold_model

METADATA = threshold_metadata(classes=3)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_threshold_model(tmp_path / "model.onnx", METADATA)


def test_triton_reads_the_configuration_as_it_is_meant(model: Path, tmp_path: Path) -> None:
    messages = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    text_format = pytest.importorskip("google.protobuf.text_format")
    write_repository(model, read_metadata(model), tmp_path / "repository", "brain")
    text = (tmp_path / "repository" / "brain" / "config.pbtxt").read_text()
    config = text_format.Parse(text, messages.ModelConfig())
    assert config.name == "brain"
    assert config.backend == "onnxruntime"
    assert config.max_batch_size == 32
    (image,) = config.input
    assert (image.name, image.data_type, list(image.dims)) == ("image", messages.TYPE_UINT8, [-1, -1, 3])
    mask, probability = config.output
    assert (mask.name, mask.data_type, list(mask.dims)) == ("mask", messages.TYPE_UINT8, [-1, -1])
    assert (probability.data_type, list(probability.dims)) == (messages.TYPE_FP32, [3, -1, -1])
    assert max(config.dynamic_batching.preferred_batch_size) <= config.max_batch_size
    assert config.dynamic_batching.default_queue_policy.max_queue_size > 0
    assert config.instance_group[0].kind == messages.ModelInstanceGroup.KIND_AUTO
    warm = config.model_warmup[0]
    assert list(warm.inputs["image"].dims) == [64, 64, 3]
    assert config.version_policy.WhichOneof("policy_choice") == "all"
    labels = (tmp_path / "repository" / "brain" / probability.label_filename).read_text().splitlines()
    assert labels == list(METADATA.classes)


def test_versions_are_counted_and_the_same_model_is_not_added_twice(model: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    assert write_repository(model, METADATA, repository, "brain").name == "1"
    assert write_repository(model, METADATA, repository, "brain").name == "1"
    write_threshold_model(model, METADATA, channel=2)
    assert write_repository(model, METADATA, repository, "brain").name == "2"
    (repository / "brain" / "9").mkdir()
    assert write_repository(model, METADATA, repository, "brain").name == "10"
    assert {path.name for path in repository.iterdir()} == {"brain"}
    assert (repository / "brain" / "2" / "model.onnx").read_bytes() == model.read_bytes()


@pytest.mark.parametrize("name", ["", "../brain", "a/b", ".hidden", "x" * 200])
def test_names_that_lead_elsewhere_are_refused(model: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError):
        write_repository(model, METADATA, tmp_path / "repository", name)


def triton_python() -> str:
    """A Python with nvidia-pytriton, which has Triton's server in its wheel, and onnxruntime."""
    return os.environ.get("SEGKIT_TRITON", "")


@pytest.fixture
def triton(model: Path, tmp_path: Path) -> Iterator[str]:
    """The address of a real Triton that serves the exported configuration.

    The wheel has no ONNX Runtime backend, so that the graph is run by ONNX Runtime in Triton's Python backend;
    everything else in the configuration is as it was exported.
    """
    python = triton_python()
    if not python:
        pytest.skip("SEGKIT_TRITON names no Python with nvidia-pytriton and onnxruntime")
    write_repository(model, METADATA, tmp_path / "repository", "brain")
    config = tmp_path / "repository" / "brain" / "config.pbtxt"
    text = re.sub(r"^platform:.*\n", "", config.read_text(), flags=re.M)
    config.write_text(text.replace('backend: "onnxruntime"', 'backend: "python"'))
    shutil.copy(Path(__file__).parent / "triton_python_model.py", config.parent / "1" / "model.py")
    find = "import pytriton, sys; print(pytriton.__path__[0], '%d.%d' % sys.version_info[:2])"
    package, version = subprocess.check_output([python, "-c", find], text=True).split()
    server = tmp_path / "tritonserver"
    shutil.copytree(Path(package) / "tritonserver" / "backends", server)
    stub = Path(package) / "tritonserver" / "python_backend_stubs" / version / "triton_python_backend_stub"
    stub.chmod(0o755)
    (server / "python" / stub.name).symlink_to(stub)  # no copy: it finds its libraries from where it lies
    binary = Path(package) / "tritonserver" / "bin" / "tritonserver"
    binary.chmod(0o755)
    folders = subprocess.check_output([python, "-c", "import site; print(':'.join(site.getsitepackages()))"], text=True)
    port = 18000 + os.getpid() % 1000
    words = [binary, "--model-repository", tmp_path / "repository", "--backend-directory", server]
    words += ["--http-port", port, "--http-address", "127.0.0.1", "--allow-grpc", "false", "--allow-metrics", "false"]
    environment = {**clean_environment(), "PYTHONPATH": folders.strip()}
    environment["PATH"] = f"{Path(python).parent}:{environment['PATH']}"
    with (tmp_path / "triton.log").open("wb") as log:
        process = subprocess.Popen(list(map(str, words)), env=environment, stdout=log, stderr=log)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def ask(address: str) -> dict[str, Any]:
    """The client code of docs/serving.md, unchanged for both servers."""
    import tritonclient.http as client_module

    client = client_module.InferenceServerClient(address)
    for _ in range(300):
        try:
            if client.is_model_ready("brain"):
                break
        except ConnectionRefusedError:
            pass
        time.sleep(0.1)
    image = np.random.default_rng(0).integers(0, 256, (5, 64, 96, 3), np.uint8)
    tensor = client_module.InferInput("image", list(image.shape), "UINT8")
    tensor.set_data_from_numpy(image)
    result = client.infer("brain", [tensor])
    metadata = client.get_model_metadata("brain")
    client.close()
    np.testing.assert_array_equal(result.as_numpy("mask"), expected_classes(image[..., 0], 3))
    assert result.as_numpy("probability").shape == (5, 3, 64, 96)
    return {key: metadata[key] for key in ("name", "versions", "inputs", "outputs")}


def test_segkit_serves_the_repository(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("tritonclient.http")
    pytest.importorskip("starlette")
    from tests.serving.conftest import serving

    write_repository(model, METADATA, tmp_path / "repository", "brain")
    with serving(tmp_path / "run", "--repository", tmp_path / "repository") as running:
        assert ask(running.host)["versions"] == ["1"]


@pytest.mark.slow
def test_a_real_triton_and_segkit_answer_the_same_client_alike(triton: str, model: Path, tmp_path: Path) -> None:
    from tests.serving.conftest import serving

    theirs = ask(triton)
    write_repository(model, METADATA, tmp_path / "own", "brain")
    with serving(tmp_path / "run", "--repository", tmp_path / "own") as running:
        assert ask(running.host) == theirs


def test_the_command_line_adds_a_version(
    phantom: Path, tmp_path: Path, segkit: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    run = tmp_path / "net"
    flags = ("--width", 2, "--epochs", 1, "--device", "cpu", "--batch", 4, "--workers", 0)
    trained = segkit("train", "--data", phantom, "--model", "unet", "--run", run, *flags)
    assert trained.returncode == 0, trained.stderr
    exported = segkit("export", run, "--triton", "repository")
    assert exported.returncode == 0, exported.stderr
    assert (tmp_path / "repository" / "net" / "1" / "model.onnx").read_bytes() == (run / "model.onnx").read_bytes()
    assert isinstance(read_metadata(run / "model.onnx"), ModelMetadata)
    wrong = segkit("export", run, "--triton", "repository", "--name", "a/b")
    assert wrong.returncode == 2
    assert "a/b" in wrong.stderr
