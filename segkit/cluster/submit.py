"""Hands scripts to sbatch."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from segkit.errors import FileError, SegkitError


def submit(words: Sequence[str], script: str | None = None) -> str:
    """Run `sbatch --parsable` with the words, the script's text on its standard input; the number of the new job.

    Raises:
        SegkitError: sbatch is not there, or refuses.
    """
    try:
        done = subprocess.run(
            ["sbatch", "--parsable", *words], input=script, capture_output=True, text=True, check=True
        )
    except FileNotFoundError as error:
        raise SegkitError(
            "sbatch is not there; go to where jobs are submitted, or take the printed script there: | ssh LOGIN sbatch"
        ) from error
    except subprocess.CalledProcessError as error:
        said = (error.stderr or "").strip().splitlines()
        raise SegkitError(
            f"sbatch refused: {said[-1] if said else 'no reason given'}; give what your site asks for with "
            "--partition, --account, --time or --sbatch"
        ) from error
    return done.stdout.strip().split(";")[0]


def check_log(log: str) -> None:
    """Raises FileError where the log's folder is missing: SLURM would end the job at its start without a word."""
    folder = Path(log).parent
    if "%" not in str(folder) and not folder.is_dir():
        raise FileError(
            folder, "is not a folder: the job would end at once, and have no log to say so", "make it first"
        )
