"""CPUs and memory: what the machine has, and what this process was granted."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from segkit.cgroup import cpu_quota, memory_left, memory_limit
from segkit.container import larger_shared_memory, runtime
from segkit.data.shared_memory import FOLDER, Room, free_bytes, megabytes
from segkit.doctor.finding import Finding, failure, note, ok, warning
from segkit.resources import compiler_for, granted_cpus

_LITTLE, _TOO_LITTLE = 2_000_000_000, 500_000_000  # bytes: a small training takes the first, one model the second
_BATCH, _PREFETCH = 16 * 256 * 256 * 4, 2  # bytes of 16 slices of 256 x 256 with three channels, and their masks


def check_cpus(root: Path = Path("/"), environment: Mapping[str, str] = os.environ) -> list[Finding]:
    """Granted against visible CPUs."""
    machine = os.cpu_count() or 1
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else machine
    quota = cpu_quota(root)
    granted = granted_cpus()
    told = environment.get("SLURM_CPUS_PER_TASK", "")
    sources = [f"{machine} in the machine", f"affinity {bound}", f"quota {quota:g}" if quota else "no quota"]
    sources += [f"SLURM_CPUS_PER_TASK {told}"] if told else []
    fact = f"{granted} granted ({', '.join(sources)})"
    values = {"granted": granted, "machine": machine, "affinity": bound, "quota": quota, "slurm": told}
    real = min(bound, quota or bound)
    if granted > real:
        meaning = f"segkit will start work for {granted} CPUs, but may use {real:g}: its threads wait for each other."
        remedy = 'call srun with --cpus-per-task="$SLURM_CPUS_PER_TASK": it does not take the job\'s by itself'
        return [warning("cpu.granted", fact, meaning, remedy, **values), *_threads(granted, environment), *_compiler()]
    return [
        ok("cpu.granted", fact, "segkit uses what is granted.", **values),
        *_threads(granted, environment),
        *_compiler(),
    ]


def _threads(granted: int, environment: Mapping[str, str]) -> list[Finding]:
    wanted = environment.get("OMP_NUM_THREADS", "")
    if not wanted.isdigit() or int(wanted) <= granted:
        return []
    fact = f"OMP_NUM_THREADS is {wanted}, more than the {granted} CPUs granted"
    remedy = f"export OMP_NUM_THREADS={granted}, or unset it"
    return [warning("cpu.threads", fact, "NumPy and torch start threads that wait for each other.", remedy)]


def _compiler() -> list[Finding]:
    if compiler_for("cpu") or compiler_for("cuda"):
        return []
    meaning = "train --compile does not work; everything else does."
    return [note("cpu.compiler", "no C++ compiler", meaning, "leave --compile out, or install g++")]


def check_memory(root: Path = Path("/"), shared: Path = FOLDER) -> list[Finding]:
    """Memory, the control group's limit, and /dev/shm."""
    return [_memory(root), _shared(shared)]


def _memory(root: Path) -> Finding:
    total, available = _machine_memory(root)
    limit, left = memory_limit(root), memory_left(root)
    free = min(available, left) if left is not None else available
    group = f"the control group allows {megabytes(limit)}" if limit is not None else "no limit by a control group"
    fact = f"{megabytes(free)} free of {megabytes(total)}; {group}"
    values = {"total": total, "free": free, "limit": limit}
    remedy = "ask for more (sbatch --mem, docker run --memory), or stop what else runs"
    if free < _TOO_LITTLE:
        return failure("memory.free", fact, "Not even one model fits: the system would kill it.", remedy, **values)
    if free < _LITTLE:
        return warning("memory.free", fact, "A training may be killed for lack of memory.", remedy, **values)
    return ok("memory.free", fact, "It is enough for a training with small batches.", **values)


def _machine_memory(root: Path) -> tuple[int, int]:
    found = {}
    try:
        text = (root / "proc/meminfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0, 0
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        if name in ("MemTotal", "MemAvailable"):
            found[name] = int(rest.split()[0]) * 1024
    return found.get("MemTotal", 0), found.get("MemAvailable", 0)


def _shared(folder: Path) -> Finding:
    check, free = "memory.shm", free_bytes(folder)
    if free is None:
        return note(check, "this system has no /dev/shm", "Loader workers pass batches in another way.")
    wanted = granted_cpus()
    room = Room(_BATCH, _PREFETCH, free)
    most = room.most(wanted)
    fact = f"/dev/shm: {megabytes(free)} free, room for {most}{'' if most < wanted else ' or more'} loader workers"
    values = {"free": free, "workers": most}
    if most == wanted:
        return ok(check, fact, "Loader workers can hand over their batches.", **values)
    meaning = f"Of {wanted} workers with batches of 16 slices of 256 x 256, train starts {most}; the others would die."
    return warning(check, fact, meaning, f"enlarge it: {larger_shared_memory(runtime())}", **values)
