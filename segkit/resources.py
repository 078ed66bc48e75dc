"""What this process was granted, which is often less than what the machine has."""

from __future__ import annotations

import math
import os
from pathlib import Path

from segkit.cgroup import cpu_quota, memory_left


def granted_cpus() -> int:
    """CPUs that this task may use: SLURM's grant, else the affinity mask, else the container's quota.

    Never `os.cpu_count()`: on a shared node that counts other people's CPUs.
    """
    slurm = os.environ.get("SLURM_CPUS_PER_TASK", "")
    if slurm.isdigit() and int(slurm) > 0:
        return int(slurm)
    visible = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(visible, math.ceil(cpu_quota() or visible)))


def available_memory() -> int:
    """Bytes that this job could take without swapping, page cache included; 0 where the system cannot tell.

    The limit of its control group counts, where that is tighter than the machine.
    """
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                machine = int(line.split()[1]) * 1024
                left = memory_left()
                return machine if left is None else min(machine, left)
    except (OSError, ValueError):
        pass
    return 0


def cache_folder(beside: Path) -> Path:
    """`SEGKIT_CACHE` where set, else a hidden folder in `beside` (the folder that holds the runs)."""
    configured = os.environ.get("SEGKIT_CACHE")
    return Path(configured) if configured else beside / ".segkit-cache"


def compiler_for(device: str) -> str | None:
    """The compiler that torch.compile would use on "cpu" or "cuda"; None where it would find none."""
    import shutil  # the time it takes to import is not for `segment` to spend

    names = [os.environ.get("CXX", "g++")] if device == "cpu" else [os.environ.get("CC", ""), "clang", "gcc"]
    return next((path for name in names if name and (path := shutil.which(name))), None)


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
