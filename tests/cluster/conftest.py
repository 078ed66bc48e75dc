"""The images and the unprivileged user that the tests of this folder share. Only root on Debian can make them.

Everything lies under SEGKIT_CLUSTER (/var/tmp/segkit-cluster), and an image is built again when what goes into it has
changed.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from containers import HERE, USER, WORK, built, give, script


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder is asked for by `make test-cluster` alone; `cluster and not slow` needs no PyTorch."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.cluster)
            parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
            if "train_sif" in (*item.fixturenames, *parameters):  # type: ignore[attr-defined]
                item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def host() -> None:
    """This machine with podman and Apptainer installed, and a user without a home."""
    if os.geteuid() or not Path("/etc/debian_version").exists():
        pytest.skip("containers and clusters are tested as root on Debian")
    script("packages.sh")
    try:
        pwd.getpwnam(USER)
    except KeyError:
        options = ["--no-create-home", "--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin"]
        subprocess.run(["useradd", *options, USER], check=True)


@pytest.fixture(scope="session")
def train_sif(host: None) -> Path:
    """segkit.sif, with PyTorch, from the Docker image localhost/segkit."""
    return built("segkit", "image.sh", "train")


@pytest.fixture(scope="session")
def infer_sif(host: None) -> Path:
    """segkit-infer.sif, with the GPU wheel of ONNX Runtime, from the Docker image localhost/segkit-infer."""
    return built("segkit-infer", "image.sh", "infer")


@pytest.fixture(scope="session")
def defined_sif(host: None) -> Path:
    """The image for inference on CPUs, from apptainer/segkit.def."""
    return built("segkit-infer-cpu", "definition.sh", "TARGET=infer", "RUNTIME=onnxruntime")


@pytest.fixture
def folder(host: None) -> Iterator[Path]:
    """An empty folder of the unprivileged user's, which the test's containers see as /data."""
    path = WORK / "run"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    give(path)
    yield path
    shutil.rmtree(path)
