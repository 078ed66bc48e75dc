"""The SLURM job around this process, if there is one."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from segkit.doctor.finding import Finding, note, ok, warning

_SHOWN = (
    "SLURM_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_STEP_ID",
    "SLURM_JOB_PARTITION",
    "SLURM_JOB_NODELIST",
    "SLURM_NNODES",
    "SLURM_NTASKS",
    "SLURM_PROCID",
    "SLURM_CPUS_PER_TASK",
    "SLURM_MEM_PER_NODE",
    "SLURM_MEM_PER_CPU",
    "SLURM_JOB_GPUS",
    "SLURM_GPUS_ON_NODE",
    "SLURM_RESTART_COUNT",
    "SLURM_TMPDIR",
)
_SOON = 600.0  # seconds


def check_slurm(environment: Mapping[str, str] = os.environ) -> list[Finding]:
    """What the job says of itself."""
    if "SLURM_JOB_ID" not in environment:
        return [note("slurm.job", "not in a SLURM job", "The grants of a job cannot be judged here.")]
    values = {name: environment[name] for name in _SHOWN if environment.get(name)}
    fact = ", ".join(f"{name.removeprefix('SLURM_')}={value}" for name, value in values.items())
    return [ok("slurm.job", fact, "segkit takes its CPUs and ranks from these.", **values), *_end(environment)]


def _end(environment: Mapping[str, str]) -> list[Finding]:
    end = environment.get("SLURM_JOB_END_TIME", "")
    if not end.isdigit():
        return []
    left = int(end) - time.time()
    if left > _SOON:
        return [ok("slurm.end", f"the job ends in {left / 3600:.1f} h", "Enough to begin.", seconds=round(left))]
    fact = f"the job ends in {max(0.0, left) / 60:.0f} min"
    return [
        warning("slurm.end", fact, "A training may be stopped soon.", "ask for more with --time", seconds=round(left))
    ]
