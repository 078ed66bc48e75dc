"""CPUs, memory, shared memory, places, network and SLURM."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from segkit.doctor.finding import Severity
from segkit.doctor.limits import check_memory
from segkit.doctor.network import check_network
from segkit.doctor.places import file_system
from segkit.doctor.slurm import check_slurm
from tests.doctor.conftest import Machine

KB = 1024


def memory_root(tmp_path: Path, available_kb: int) -> Path:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text(f"MemTotal: 8000000 kB\nMemAvailable: {available_kb} kB\n")
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    return tmp_path


def test_more_cpus_told_than_given_is_a_warning(bare: Machine) -> None:
    bind = "limits.os.sched_setaffinity(0, {min(limits.os.sched_getaffinity(0))})"
    one = f"({bind}, limits.check_cpus())[1]"
    found = {f["check"]: f for f in bare.findings(one, SLURM_CPUS_PER_TASK="8", OMP_NUM_THREADS="16")}
    assert found["cpu.granted"]["severity"] == "warning"
    assert found["cpu.granted"]["values"]["affinity"] == 1
    assert "--cpus-per-task" in found["cpu.granted"]["remedy"]
    assert found["cpu.threads"]["severity"] == "warning"
    found = {f["check"]: f for f in bare.findings(one)}
    assert found["cpu.granted"]["severity"] == "ok"
    assert found["cpu.granted"]["values"]["granted"] == 1


@pytest.mark.parametrize(
    ("available_kb", "limit_kb", "severity"),
    [
        (6_000_000, None, Severity.OK),
        (6_000_000, 1_000_000, Severity.WARNING),
        (6_000_000, 300_000, Severity.FAILURE),
        (1_500_000, None, Severity.WARNING),
    ],
)
def test_memory_is_judged_by_the_tighter_of_machine_and_group(
    tmp_path: Path, available_kb: int, limit_kb: int | None, severity: Severity
) -> None:
    root = memory_root(tmp_path, available_kb)
    if limit_kb is not None:
        (root / "sys/fs/cgroup/memory.max").write_text(f"{limit_kb * KB}\n")
        (root / "sys/fs/cgroup/memory.current").write_text("0\n")
    found = check_memory(root)[0]
    assert found.severity is severity
    assert found.values["limit"] == (limit_kb * KB if limit_kb else None)


def test_no_shared_memory_is_a_warning(tmp_path: Path) -> None:
    found = check_memory(memory_root(tmp_path, 6_000_000), tmp_path / "shm")[1]
    assert found.severity is Severity.WARNING
    assert found.values == {"free": 0, "workers": 0}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount")
def test_a_small_shared_memory_in_a_real_mount(bare: Machine) -> None:
    program = (
        "import subprocess, json\n"
        "subprocess.check_call(['mount', '-t', 'tmpfs', '-o', 'size=20m', 'tmpfs', '/dev/shm'])\n"
        "from segkit.doctor.limits import check_memory\n"
        "found = check_memory()[1]\nprint(found.severity.name, found.values['workers'])"
    )
    words = ["unshare", "-m", sys.executable, "-c", program]
    environment = bare.environment(SLURM_CPUS_PER_TASK="4")
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if "unshare failed" in done.stderr or "mount:" in done.stderr:
        pytest.skip("may not mount here")
    assert done.stdout.split() == ["WARNING", "1"], done.stderr  # (1 x 2 + 2) x 4.2 + 1 MB fit into 20


def test_the_type_of_a_file_system(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/a / ext4 rw 0 0\nserver:/x {tmp_path} nfs4 rw 0 0\ntmpfs {tmp_path}/of tmpfs rw 0 0\n")
    (tmp_path / "offside").mkdir()
    assert file_system(tmp_path / "offside", mounts) == "nfs4"
    assert file_system(Path("/"), mounts) == "ext4"


def test_a_long_temporary_path_is_a_failure(bare: Machine) -> None:
    folder = bare.folder / ("x" * 80)
    folder.mkdir()
    found = [f for f in bare.findings("places.check_places()", TMPDIR=str(folder)) if f["check"] == "place.temporary"]
    assert [f["severity"] for f in found] == ["ok", "failure"]
    assert {path.name for path in bare.folder.iterdir()} == {"libraries", "x" * 80}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be without a network")
def test_no_network_is_well_but_no_loopback_is_a_failure(bare: Machine) -> None:
    program = (
        "from segkit.doctor.network import check_network\n"
        "print(*[f.severity.name for f in check_network({'ORT_DISABLE_TELEMETRY': '1'})])"
    )
    for up, expected in (("true", ["OK", "FAILURE"]), ("ip link set lo up", ["OK", "OK"])):
        words = ["unshare", "-n", "sh", "-c", f'{up} && exec "$0" -c "$1"', sys.executable, program]
        path = f"{os.environ['PATH']}:/sbin:/usr/sbin"
        environment = bare.environment(PATH=path)
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        if "unshare" in done.stderr or "ip: not found" in done.stderr:
            pytest.skip("may not leave the network here, or no ip(8)")
        assert done.stdout.split() == expected, done.stderr


def test_variables_that_matter() -> None:
    off = {"ORT_DISABLE_TELEMETRY": "1"}
    assert [f.severity for f in check_network(off)] == [Severity.OK, Severity.OK]
    assert check_network({"ORT_DISABLE_TELEMETRY": "0"})[0].severity is Severity.WARNING
    proxied = check_network({**off, "HTTPS_PROXY": "http://proxy:3128"})
    assert proxied[2].severity is Severity.NOTE
    assert len(check_network({**off, "https_proxy": "x", "no_proxy": "example.org, localhost"})) == 2


def test_a_job_that_ends_soon_is_a_warning() -> None:
    assert check_slurm({})[0].severity is Severity.NOTE
    job = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_JOB_END_TIME": str(int(time.time()) + 120)}
    found = check_slurm(job)
    assert found[0].values == {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2"}
    assert found[1].severity is Severity.WARNING
    assert check_slurm({**job, "SLURM_JOB_END_TIME": str(int(time.time()) + 7200)})[1].severity is Severity.OK
