"""All checks, in the order of the page."""

from __future__ import annotations

from segkit.doctor.finding import Finding
from segkit.doctor.gpu import check_gpus
from segkit.doctor.host import check_host, check_packages
from segkit.doctor.limits import check_cpus, check_memory
from segkit.doctor.network import check_network
from segkit.doctor.places import check_places
from segkit.doctor.providers import check_onnxruntime
from segkit.doctor.slurm import check_slurm
from segkit.doctor.torch_build import check_torch


def examine() -> list[Finding]:
    """Examine this machine, container and job. Leaves nothing behind."""
    gpus = check_gpus()
    return [
        *check_host(),
        *gpus.findings,
        *check_torch(gpus),
        *check_onnxruntime(gpus),
        *check_packages(),
        *check_cpus(),
        *check_memory(),
        *check_places(),
        *check_network(),
        *check_slurm(),
    ]
