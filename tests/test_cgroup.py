"""Limits read from files as the kernel writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from segkit.cgroup import cpu_quota, memory_left, memory_limit

GB = 1 << 30


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def group(root: Path, path: str, files: dict[str, str]) -> None:
    folder = root / "sys/fs/cgroup" / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)


def test_the_tightest_group_on_the_way_up_counts(tmp_path: Path) -> None:
    write(tmp_path, proc__self__cgroup="0::/slurm/job_1/step_0\n")
    group(tmp_path, "slurm/job_1/step_0", {"cpu.max": "max 100000\n", "memory.max": "max\n"})
    group(
        tmp_path,
        "slurm/job_1",
        {
            "cpu.max": "250000 100000\n",
            "memory.max": f"{8 * GB}\n",
            "memory.current": f"{6 * GB}\n",
            "memory.stat": f"anon 1\ninactive_file {1 * GB}\n",
        },
    )
    group(tmp_path, "slurm", {"cpu.max": "800000 100000\n", "memory.max": f"{64 * GB}\n", "memory.current": "0\n"})
    assert cpu_quota(tmp_path) == 2.5
    assert memory_limit(tmp_path) == 8 * GB
    assert memory_left(tmp_path) == 3 * GB


def test_a_container_sees_its_group_as_the_root(tmp_path: Path) -> None:
    write(tmp_path, proc__self__cgroup="0::/\n")
    group(tmp_path, "", {"cpu.max": "150000 100000\n", "memory.max": f"{2 * GB}\n", "memory.current": f"{GB}\n"})
    assert (cpu_quota(tmp_path), memory_limit(tmp_path), memory_left(tmp_path)) == (1.5, 2 * GB, GB)


@pytest.mark.parametrize("folder", ["cpu,cpuacct", "cpu"])
def test_version_1(tmp_path: Path, folder: str) -> None:
    write(tmp_path, proc__self__cgroup="5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n0::/\n")
    group(tmp_path, f"{folder}/docker/x", {"cpu.cfs_quota_us": "300000\n", "cpu.cfs_period_us": "100000\n"})
    group(tmp_path, folder, {"cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n"})
    group(tmp_path, "memory/docker/x", {"memory.limit_in_bytes": f"{GB}\n", "memory.usage_in_bytes": "0\n"})
    group(tmp_path, "memory", {"memory.limit_in_bytes": "9223372036854771712\n", "memory.usage_in_bytes": "5\n"})
    assert (cpu_quota(tmp_path), memory_limit(tmp_path)) == (3.0, GB)


def test_no_groups_are_no_limit(tmp_path: Path) -> None:
    assert (cpu_quota(tmp_path), memory_limit(tmp_path), memory_left(tmp_path)) == (None, None, None)
