"""What a job asks of the cluster, and how it is run there."""

from __future__ import annotations

import re
from dataclasses import dataclass

from segkit.config import Checked, option
from segkit.errors import ConfigError


@dataclass(frozen=True)
class JobConfig(Checked):
    """The job."""

    image: str = option("", "Apptainer image; without it, that in which this runs, SEGKIT_SIF, or segkit on PATH.")
    partition: str = option("", "Partition of the cluster.")
    account: str = option("", "Account that pays.")
    time: str = option("", "Time limit as SLURM has it: minutes, hours:minutes:seconds, days-hours.")
    cpus: int = option(8, "CPUs a node.", low=1, high=1024)
    mem: str = option("", "Memory a node, e.g. 64G.")
    name: str = option("", "Name of the job.")
    log: str = option("", "Log file; %j is the job's number. Default: in the folder of submission.")
    grace: int = option(120, "Seconds before the time limit in which the work is saved.", low=10, high=3600)
    setup: str = option("", "Shell line to run first, e.g. 'module load apptainer'.")
    sbatch: str = option("", "More options for sbatch, as typed, e.g. '--qos=long --exclude=n7'.")

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("image", "partition", "account", "time", "mem", "name", "log", "sbatch"):
            value = str(getattr(self, key))
            if any(ord(character) < 32 for character in value):
                raise ConfigError(key, value, "a text of one line")
        if self.time and not re.fullmatch(r"(\d+-)?\d+(:\d+){0,2}|UNLIMITED", self.time):
            raise ConfigError("time", self.time, "minutes, hours:minutes:seconds or days-hours, e.g. 90, 4:00:00, 1-12")
