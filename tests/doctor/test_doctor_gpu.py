"""The driver, NVML, MIG and --nv, on libraries that answer as a script says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.doctor.conftest import Machine

SCRIPT = """
driver 550.54
gpu GPU-aaaa 00000000:3B:00.0 NVIDIA_A100
total 80e9
migmode 1
mig MIG-bbbb 1 NVIDIA_A100_1g.10gb
total 10e9
gpu GPU-cccc 00000000:5E:00.0 NVIDIA_A100
total 80e9
"""
EXAMINED = "gpu.check_gpus(Path('root')).findings"


def by_check(findings: list[dict[str, Any]], check: str) -> list[dict[str, Any]]:
    return [finding for finding in findings if finding["check"] == check]


def script(machine: Machine, text: str = SCRIPT) -> dict[str, str]:
    file = machine.folder / "gpus.txt"
    file.write_text(text)
    return {"NVML_STUB_SCRIPT": str(file)}


def test_gpus_are_named_by_uuid_with_their_mig_devices(with_gpus: Machine) -> None:
    found = with_gpus.findings(EXAMINED, CUDA_STUB="12040 0 2", **script(with_gpus))
    (driver,) = by_check(found, "gpu.driver")
    assert driver["severity"] == "ok"
    assert "CUDA up to 12.4, 2 GPUs visible" in driver["fact"]
    assert [f["values"]["uuid"] for f in by_check(found, "gpu.device")] == ["GPU-aaaa", "GPU-cccc"]
    (part,) = by_check(found, "gpu.mig")
    assert (part["values"]["uuid"], part["values"]["parent"]) == ("MIG-bbbb", "GPU-aaaa")
    assert "550.54" in by_check(found, "gpu.nvml")[0]["fact"]


def test_what_the_environment_hides_is_said(with_gpus: Machine) -> None:
    found = with_gpus.findings(EXAMINED, CUDA_STUB="12040 0 1", CUDA_VISIBLE_DEVICES="GPU-cccc", **script(with_gpus))
    assert by_check(found, "gpu.visible")[0]["values"]["visible"] == ["GPU-cccc"]
    found = with_gpus.findings(EXAMINED, CUDA_STUB="12040 0 1", CUDA_VISIBLE_DEVICES="7", **script(with_gpus))
    assert by_check(found, "gpu.visible")[0]["severity"] == "failure"


@pytest.mark.parametrize(
    ("stub", "said"),
    [
        ("12040 100 0", "the driver sees no device"),
        ("12040 803 0", "different versions"),
        ("12040 0 0", "no GPU is visible"),
        ("12040 77 0", "CUDA error 77"),
        ("12040 -1 0", "crashed with SIGSEGV"),
    ],
)
def test_a_driver_that_does_not_start_is_a_failure(with_gpus: Machine, stub: str, said: str) -> None:
    (driver,) = by_check(with_gpus.findings(EXAMINED, CUDA_STUB=stub, **script(with_gpus)), "gpu.driver")
    assert driver["severity"] == "failure"
    assert said in driver["fact"]


def test_a_broken_nvml_is_told_in_its_words(with_gpus: Machine) -> None:
    broken = script(with_gpus, SCRIPT + "fail nvmlInitWithFlags 18 -1 0\n")
    (nvml,) = by_check(with_gpus.findings(EXAMINED, CUDA_STUB="12040 0 2", **broken), "gpu.nvml")
    assert nvml["severity"] == "warning"
    assert "different versions" in nvml["fact"]


def host(machine: Machine, *, apptainer: bool = False, docker: bool = False, gpu: bool = True) -> None:
    """The files by which the kernel shows a GPU, and the runtimes their containers."""
    root = machine.folder / "root"
    device = root / "sys/bus/pci/devices/0000:3b:00.0"
    device.mkdir(parents=True)
    (device / "vendor").write_text("0x10de\n" if gpu else "0x8086\n")
    (device / "class").write_text("0x030200\n")
    if apptainer:
        (root / ".singularity.d").mkdir()
    if docker:
        (root / ".dockerenv").touch()


def test_a_forgotten_nv_is_a_failure_with_the_flag_to_add(bare: Machine) -> None:
    host(bare, apptainer=True)
    (driver,) = by_check(bare.findings(EXAMINED), "gpu.driver")
    assert driver["severity"] == "failure"
    assert "--nv was forgotten" in driver["fact"]
    assert driver["remedy"] == "start it as: apptainer run --nv"


@pytest.mark.parametrize(("docker", "remedy"), [(True, "docker run --gpus all"), (False, "install NVIDIA's driver")])
def test_a_missing_driver_library(bare: Machine, docker: bool, remedy: str) -> None:
    host(bare, docker=docker)
    (driver,) = by_check(bare.findings(EXAMINED), "gpu.driver")
    assert driver["severity"] == "failure"
    assert remedy in driver["remedy"]


def test_a_host_without_a_gpu_is_a_note(bare: Machine) -> None:
    host(bare, apptainer=True, gpu=False)
    (driver,) = by_check(bare.findings(EXAMINED), "gpu.driver")
    assert (driver["severity"], driver["fact"]) == ("note", "no NVIDIA GPU")


def test_a_granted_gpu_that_is_not_there_is_a_failure(bare: Machine) -> None:
    (driver,) = by_check(bare.findings(EXAMINED, SLURM_JOB_GPUS="1"), "gpu.driver")
    assert driver["severity"] == "failure"
    assert "GPUs are granted (SLURM_JOB_GPUS=1)" in driver["fact"]


@pytest.mark.parametrize(
    ("driver", "built", "runs"),
    [(12040, "12.6", True), (12040, "11.8", True), (12040, "13.0", False), (11080, "12.1", False), (0, "13.0", True)],
)
def test_a_driver_runs_its_own_major_version_of_cuda_and_older_ones(driver: int, built: str, runs: bool) -> None:
    from segkit.doctor.gpu import Gpus

    assert (Gpus(True, driver).too_old_for(built) == "") is runs


def test_what_is_seen_lies_under_the_root(tmp_path: Path) -> None:
    from segkit.doctor import hardware

    assert (hardware.pci_gpus(tmp_path), hardware.device_files(tmp_path), hardware.kernel_driver(tmp_path)) == (
        [],
        [],
        "",
    )
    (tmp_path / "dev").mkdir()
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / "dev" / name).touch()
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    line = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n"
    (tmp_path / "proc/driver/nvidia/version").write_text(line)
    assert hardware.device_files(tmp_path) == ["nvidia0", "nvidia1"]
    assert hardware.kernel_driver(tmp_path) == "550.54.15"
