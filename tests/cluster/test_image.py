"""The Docker images: what they hold, who they run as, and what is left of the machine that built them."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from containers import WORK
from PIL import Image
from threshold_model import expected_classes, write_threshold_model

from segkit import __version__
from tests.conftest import ROOT

IMAGES = {"train_sif": "segkit", "infer_sif": "segkit-infer"}


@pytest.fixture(params=IMAGES)
def image(request: pytest.FixtureRequest) -> str:
    """The name of an image that has been built: localhost/segkit, localhost/segkit-infer."""
    request.getfixturevalue(request.param)
    return IMAGES[request.param]


def podman(*words: object) -> str:
    """The output of `podman WORDS`."""
    done = subprocess.run(["podman", *map(str, words)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run(image: str, *words: object, options: tuple[object, ...] = ()) -> str:
    """The output of a container of an id that no list of users has, with a read-only root and no network."""
    # Root may not raise limits everywhere, and crun wants cgroups as few containers have them.
    host = ["--runtime", "runc", "--ulimit", "nofile=4096:4096", "--ulimit", "nproc=1024:1024"]
    shut = ["--network", "none", "--read-only", "--user", "4242:4242", "--cap-drop", "ALL"]
    return podman("run", "--rm", *host, *shut, *options, f"localhost/{image}", *words)


def inspect(image: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(podman("image", "inspect", f"localhost/{image}"))[0]
    return found


def test_the_image_s_facts(image: str) -> None:
    found = inspect(image)
    config, labels = found["Config"], found["Labels"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", config["User"])
    assert config["Entrypoint"] == ["/opt/segkit/bin/segkit"]
    assert labels["org.opencontainers.image.version"] == __version__
    head = subprocess.run(["git", "-C", ROOT, "cat-file", "-t", labels["org.opencontainers.image.revision"]])
    assert head.returncode == 0
    health = next(value for key, value in found.items() if key.lower() == "healthcheck")  # podman's versions differ
    assert health["Test"][-1].endswith("healthcheck.py")
    if image == "segkit-infer":
        assert found["Size"] < 700_000_000


def test_nothing_of_the_build_is_left(image: str) -> None:
    look = """
        for name in cc gcc c++ ld as make pip pip3 git curl; do command -v $name && exit 1; done
        find / -xdev \\( -path '*/pip/*' -o -name '*.whl' -o -path '*/.cache/*' -o -path '/src*' -o -name '*.h' \\) \
            -type f 2>/dev/null
        find /opt/segkit /mnt /tmp /var/tmp /root ! -user 0 2>/dev/null
        ls -A /mnt /tmp /data
        python -c 'import segkit, numpy; print(segkit.__cached__, numpy.__cached__)'
    """
    out = run(image, "-c", look, options=("--entrypoint", "sh")).split()
    empty, cached = out[:-2], out[-2:]
    assert empty == ["/data:", "/mnt:", "/tmp:"]
    assert all(Path(name).name.startswith("__init__.cpython-") for name in cached)
    # Where packages came from is the business of the machine that built it.
    apt = subprocess.run(["apt-get", "indextargets", "--format", "$(REPO_URI)"], capture_output=True, text=True)
    hosts = re.findall(r"https?://([^/\s]+)", (WORK / "pip/pip.conf").read_text() + apt.stdout)
    words = [word for host in {*hosts, "/mnt/pip"} for word in ("-e", shlex.quote(host))]
    grep = f"grep -rlsIF {' '.join(words)} /etc /var /usr/local /opt/segkit/bin /opt/segkit/pyvenv.cfg || true"
    assert run(image, "-c", grep, options=("--entrypoint", "sh")) == ""


def test_any_id_segments_and_serves(infer_sif: Path, folder: Path) -> None:
    write_threshold_model(folder / "model.onnx")
    pixels = np.random.default_rng(3).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "scan.tif")
    folder.chmod(0o777)
    mount = ("--volume", f"{folder}:/data")
    assert "scan_mask.tif" in run("segkit-infer", "segment", "scan.tif", "--model", "model.onnx", options=mount)
    with Image.open(folder / "scan_mask.tif") as mask:
        np.testing.assert_array_equal(np.asarray(mask), expected_classes(pixels[..., 0]) * np.uint8(255))

    serving = (*mount, "--detach", "--tmpfs", "/tmp", "--name", f"segkit-{time.time_ns()}")
    server = run("segkit-infer", "serve", "--model", "model.onnx", "--port=8123", options=serving).strip()
    other = run("segkit-infer", "60", options=(*serving[:-1], f"{serving[-1]}-other", "--entrypoint", "sleep")).strip()
    try:
        assert any(healthy(server) or time.sleep(0.2) for _ in range(100))
        assert healthy(other)
        os.kill(int(podman("inspect", "--format", "{{.State.Pid}}", server)), signal.SIGSTOP)
        assert not healthy(server)
    finally:
        podman("rm", "--force", "--time", "0", server, other)


def healthy(container: str) -> bool:
    """What the image's health check says of a container."""
    return subprocess.run(["podman", "healthcheck", "run", container], capture_output=True).returncode == 0


def test_the_dockerfile_and_the_scripts_are_clean() -> None:
    scripts = [*ROOT.glob("docker/*.sh"), *ROOT.glob("tests/cluster/*.sh"), *ROOT.glob("apptainer/**/*.s*")]
    subprocess.run(["hadolint", ROOT / "docker/Dockerfile"], check=True)
    subprocess.run(["shellcheck", "-x", "-P", "SCRIPTDIR", *scripts], check=True)
