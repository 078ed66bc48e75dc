"""The scripts with nothing filled in, as files: `python -m segkit.cluster.templates apptainer/slurm` writes them."""

from __future__ import annotations

import sys
from pathlib import Path

from segkit.cluster.config import JobConfig
from segkit.cluster.script import Script
from segkit.files import write_text

TEMPLATES = {
    "train.sbatch": Script("train", "train", settings={"ranks": "", "run": ""}),
    "train-multinode.sbatch": Script("train", "multinode", nodes=2, settings={"ranks": "", "run": ""}),
    "sweep.sbatch": Script("sweep", "sweep", array="0"),
    "segment-array.sbatch": Script("segment", "segment", array="0-3", settings={"list": "", "output": "", "tasks": ""}),
    "serve.sbatch": Script("serve", "serve", settings={"port": ""}),
}


def write_templates(folder: Path) -> None:
    """Write all of them into a folder."""
    for name, script in TEMPLATES.items():
        write_text(folder / name, script.text(JobConfig()))


if __name__ == "__main__":
    write_templates(Path(sys.argv[1]))
