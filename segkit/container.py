"""Which container runtime this process lives under, and how its user gives it another folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

APPTAINER, DOCKER, PODMAN = "apptainer", "docker", "podman"


def runtime(root: Path = Path("/"), environment: Mapping[str, str] = os.environ) -> str:
    """`apptainer`, `docker`, `podman`, or "" outside a container.

    Args:
        root: where to look for the files by which the runtimes mark their containers.
        environment: the process's variables.
    """
    if _has(environment, "APPTAINER_CONTAINER", "SINGULARITY_CONTAINER") or (root / ".singularity.d").is_dir():
        return APPTAINER
    if (root / "run" / ".containerenv").exists() or environment.get("container") == "podman":
        return PODMAN
    if (root / ".dockerenv").exists() or environment.get("KUBERNETES_SERVICE_HOST"):
        return DOCKER
    return ""


def bind(place: Path, kind: str | None = None) -> str:
    """What to add to the container's start so that `place` is a folder of the host; "" outside a container."""
    kind = runtime() if kind is None else kind
    if kind == APPTAINER:
        return f"apptainer run --bind HOST_FOLDER:{place}"
    return f"{kind} run -v HOST_FOLDER:{place}" if kind else ""


def larger_shared_memory(kind: str) -> str:
    """How this runtime gives a container more /dev/shm; on a host, how root does."""
    if kind == APPTAINER:
        return "apptainer run --bind /dev/shm"
    return f"{kind} run --shm-size=1g" if kind else "mount -o remount,size=50% /dev/shm (as root)"


def _has(environment: Mapping[str, str], *names: str) -> bool:
    return any(environment.get(name) for name in names)
