"""Submits a study to SLURM: one job array for each number of GPUs, and a job that gathers their results.

A cell of several ranks wants as many GPUs, so cells of one kind share an array. The arrays' positions are those of the
plan, whose order is shuffled. Every job writes a file of its own: appending to one file from several nodes is not safe.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

from segkit.bench.rows import StudyFolder
from segkit.bench.study import Study
from segkit.bench.sweep import SweepOptions, prepare
from segkit.errors import SegkitError
from segkit.files import write_text

SCRIPT, GATHER = "array.sh", "gather.sh"
LOGS = "slurm"


def submit(
    folder: StudyFolder, study: Study, options: SweepOptions, sbatch: str, say: Callable[[str], None]
) -> list[str]:
    """Prepare the dataset, write the scripts and submit what has no row yet; the jobs' numbers.

    Args:
        folder: the study's folder, which every node has to see.
        study: what `sweep.begin` gave.
        options: as of a sweep.
        sbatch: options of the site, as they would be typed.
        say: called with a line for each array.

    Raises:
        SegkitError: sbatch is not there, or refuses.
    """
    missing = missing_tasks(folder, study, options)
    if not missing:
        say("all measurements are there")
        return []
    prepare(folder, study)
    script, gather = write_scripts(folder, options)
    jobs = []
    for gpus, tasks in missing.items():
        own = [f"--array={array(tasks)}", *([f"--gpus-per-node={gpus}"] if gpus else [])]
        jobs.append(_sbatch([*own, *shlex.split(sbatch), str(script)]))
        say(f"job {jobs[-1]}: {len(tasks)} measurements" + (f" of {gpus} GPU{'s' * (gpus > 1)}" if gpus else ""))
    last = _sbatch([f"--dependency=afterany:{':'.join(jobs)}", *_for_gathering(shlex.split(sbatch)), str(gather)])
    say(f"job {last}: gathers the results into {folder.results}")
    return [*jobs, last]


def missing_tasks(folder: StudyFolder, study: Study, options: SweepOptions) -> dict[int, list[int]]:
    """Positions of the plan without a row, by the GPUs that a job needs; 0 on a CPU."""
    known = {(row.cell, row.repeat) for row in folder.rows() if row.done or not options.retry}
    found: dict[int, list[int]] = defaultdict(list)
    for index, one in enumerate(study.plan()):
        if (one.cell.id, one.repeat) not in known:
            found[0 if one.cell.value("device") == "cpu" else int(one.cell.value("gpus"))].append(index)
    return dict(sorted(found.items()))


def array(tasks: Sequence[int]) -> str:
    """Positions as sbatch takes them: "0-3,7,9-10"."""
    runs = [[task for _, task in group] for _, group in groupby(enumerate(sorted(tasks)), lambda p: p[1] - p[0])]
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def write_scripts(folder: StudyFolder, options: SweepOptions) -> tuple[Path, Path]:
    """The batch scripts of the measurements and of the gathering."""
    path = folder.path.resolve()
    (path / LOGS).mkdir(parents=True, exist_ok=True)
    sweep = [sys.executable, "-m", "segkit", "bench", "sweep", f"--output={path}"]
    more = [f"--{name}" for name in ("retry", "keep") if getattr(options, name)]
    start = f"cd {shlex.quote(str(Path.cwd()))}\n"
    measure = f'{shlex.join([*sweep, *more])} --task="$SLURM_ARRAY_TASK_ID"\n'
    script, gather = path / SCRIPT, path / GATHER
    write_text(script, _head("segkit-bench", path / LOGS / "%A_%a.log") + start + "exec " + measure)
    write_text(gather, _head("segkit-gather", path / LOGS / "%j.log") + start + f"exec {shlex.join(sweep)} --gather\n")
    return script, gather


def _head(name: str, log: Path) -> str:
    options = (f"--job-name={name}", "--nodes=1", "--ntasks=1", f"--output={log}")
    return "\n".join(["#!/bin/bash", *(f"#SBATCH {option}" for option in options), "set -eu", ""])


def _for_gathering(words: Sequence[str]) -> list[str]:
    """The site's options less what asks for GPUs or many CPUs, which copying some lines does not need."""
    kept, drop_next = [], False
    for word in words:
        if drop_next:
            drop_next = False
            continue
        if re.match(r"(--gpus|--gres|--exclusive|--cpus-per|--mem)|(-G|-c)$", word):
            drop_next = "=" not in word and word != "--exclusive"
            continue
        kept.append(word)
    return kept


def _sbatch(words: Sequence[str]) -> str:
    """The number of a new job."""
    try:
        done = subprocess.run(["sbatch", "--parsable", *words], capture_output=True, text=True, check=True)
    except FileNotFoundError as error:
        raise SegkitError(
            "--slurm: sbatch is not there; run it where jobs are submitted, or leave --slurm out"
        ) from error
    except subprocess.CalledProcessError as error:
        said = (error.stderr or "").strip().splitlines()
        raise SegkitError(f"sbatch refused: {said[-1] if said else 'no reason given'}; see --sbatch") from error
    return done.stdout.strip().split(";")[0]
