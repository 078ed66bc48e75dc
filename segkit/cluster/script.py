"""Batch scripts: the options and settings of one job in front of texts that are the same for all."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from segkit.cluster.config import JobConfig
from segkit.errors import ConfigError

TEXTS = Path(__file__).parent / "scripts"
RUNTIME_IMAGE = "${SEGKIT_SIF-}"  # shell: where no image is named


@dataclass(frozen=True)
class Script:
    """One job: what it asks for and the words it gives to segkit.

    Args:
        kind: whose text in `scripts/` it runs: train, sweep, segment or serve.
        command: the words after `segkit slurm` that write it.
        arguments: words for segkit.
        nodes: how many nodes.
        gpus: of each node.
        array: task numbers as sbatch has them, e.g. "0-7"; "" for a job that is none.
        stage: whether the dataset is copied to the nodes' own disks.
        settings: more shell variables of the kind's text.
    """

    kind: str
    command: str
    arguments: Sequence[str] = ()
    nodes: int = 1
    gpus: int = 1
    array: str = ""
    stage: bool = False
    settings: Mapping[str, str] | None = None

    def text(self, job: JobConfig) -> str:
        """The whole script, ready for sbatch."""
        settings = {"stage": "yes" if self.stage else "", **(self.settings or {})}
        lines = [
            "#!/bin/bash",
            *(f"#SBATCH {option}" for option in self._options(job)),
            "#",
            f"# Written by `segkit slurm {self.command}`. Words after the script's name go to segkit:",
            f"#     sbatch THIS {_EXAMPLE[self.kind]}",
            "",
            "# The functions run on the nodes, and the words in single quotes are meant to stay as they are.",
            "# shellcheck disable=SC2016,SC2089,SC2090,SC2317",
            "",
            "# Apptainer image; empty: the segkit on PATH.",
            f"image={_image(job)}",
            *(f"{name}={shlex.quote(value)}" for name, value in settings.items()),
            f'arguments=({shlex.join(self.arguments)} "$@")' if self.arguments else 'arguments=("$@")',
            "setup() { :; }" if not job.setup.strip() else f"setup() {{\n    {job.setup.strip()}\n}}",
            "",
            _text("common"),
            _text(self.kind),
        ]
        return "\n".join(lines)

    def log(self, job: JobConfig) -> str:
        """The log file's pattern."""
        return job.log or f"{self._name(job)}-{'%A_%a' if self.array else '%j'}.log"

    def _name(self, job: JobConfig) -> str:
        return job.name or f"segkit-{self.command}"

    def _options(self, job: JobConfig) -> list[str]:
        options = {
            "job-name": self._name(job),
            "partition": job.partition,
            "account": job.account,
            "nodes": str(self.nodes),
            "ntasks-per-node": "1",
            "gpus-per-node": str(self.gpus) if self.gpus else "",
            "cpus-per-task": str(job.cpus),
            "mem": job.mem,
            "time": job.time,
            "array": self.array,
            "signal": f"B:USR1@{job.grace}",
            "output": self.log(job),
            "open-mode": "append",
        }
        words = [f"--{name}={_sbatch_word(value)}" for name, value in options.items() if value]
        return [*words, "--requeue", *(_sbatch_word(word) for word in sbatch_words(job))]


_EXAMPLE = {
    "train": "--data=/data/kaggle_3m --epochs=50",
    "sweep": "--output=bench/sweep",
    "segment": "LIST --model=runs/unet",
    "serve": "--model=runs/unet",
}


def sbatch_words(job: JobConfig) -> list[str]:
    """The site's options as words. Raises ConfigError where a quote is not closed."""
    try:
        return shlex.split(job.sbatch)
    except ValueError as error:
        raise ConfigError("sbatch", job.sbatch, f"options as they would be typed ({error})") from error


def _image(job: JobConfig) -> str:
    if job.image:
        return shlex.quote(str(Path(job.image).absolute()))
    # Inside an image the job is to run in the same one; Apptainer tells its path on the host.
    inside = os.environ.get("APPTAINER_CONTAINER", "")
    return shlex.quote(inside) if inside else RUNTIME_IMAGE


def _sbatch_word(word: str) -> str:
    """A word as sbatch reads it on its lines: in quotes, where a space or a # would end it."""
    if not any(character in word for character in " \t#'\"\\"):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


@cache
def _text(name: str) -> str:
    return (TEXTS / f"{name}.sh").read_text(encoding="utf-8")
