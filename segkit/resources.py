"""What this process was granted, which is often less than what the machine has."""

from __future__ import annotations

import os
from pathlib import Path


def granted_cpus() -> int:
    """CPUs that this task may use: SLURM's grant, else the affinity mask, else the container's quota.

    Never `os.cpu_count()`: on a shared node that counts other people's CPUs.
    """
    slurm = os.environ.get("SLURM_CPUS_PER_TASK", "")
    if slurm.isdigit() and int(slurm) > 0:
        return int(slurm)
    visible = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(visible, _cgroup_quota() or visible))


def _cgroup_quota() -> int | None:
    """CPUs of the cgroup-v2 quota, rounded up; None where there is none."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else -(-int(quota) // int(period))


def available_memory() -> int:
    """Bytes that the system could give without swapping, page cache included; 0 where it cannot tell."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return 0


def cache_folder(beside: Path) -> Path:
    """`SEGKIT_CACHE` where set, else a hidden folder in `beside` (the folder that holds the runs)."""
    configured = os.environ.get("SEGKIT_CACHE")
    return Path(configured) if configured else beside / ".segkit-cache"


def has_bf16_cpu() -> bool:
    """Whether this CPU multiplies bfloat16 faster than float32.

    With AMX tiles, and on AMD's cores with AVX-512 BF16, whose products run at full width: a step of the U-Net was 2.5
    times as fast there. Intel's AVX-512 BF16 without AMX is no faster than float32 (benchmarks/cpu_training.py).
    """
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return "amx_bf16" in text or ("AuthenticAMD" in text and "avx512_bf16" in text)
