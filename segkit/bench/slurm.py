"""Submits a study to SLURM: one job array for each number of GPUs, and a job that gathers their results.

A cell of several ranks wants as many GPUs, so cells of one kind share an array. The arrays' positions are those of the
plan, whose order is shuffled. Every job writes a file of its own: appending to one file from several nodes is not safe.
"""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from segkit.bench.rows import StudyFolder
from segkit.bench.study import Study
from segkit.bench.sweep import SweepOptions, prepare
from segkit.cluster.config import JobConfig
from segkit.cluster.script import Script, sbatch_words
from segkit.cluster.submit import submit as hand_over
from segkit.files import write_text

LOGS = "slurm"


@dataclass(frozen=True)
class Jobs:
    """The scripts of a study: an array for each number of GPUs, and the job that gathers their results."""

    arrays: list[tuple[Path, int, int]]  # script, measurements, GPUs of each
    gather: Path

    def commands(self) -> str:
        """Lines of a shell that submit them."""
        names = [f"job{number}" for number in range(len(self.arrays))]
        lines = [
            f"{name}=$(sbatch --parsable {shlex.quote(str(script))})"
            for name, (script, _, _) in zip(names, self.arrays, strict=True)
        ]
        after = ":".join(f"${{{name}%%;*}}" for name in names)
        return "\n".join([*lines, f'sbatch --dependency="afterany:{after}" {shlex.quote(str(self.gather))}'])


def submit(
    folder: StudyFolder, study: Study, options: SweepOptions, job: JobConfig, say: Callable[[str], None]
) -> list[str]:
    """Prepare the dataset, write the scripts and submit what has no row yet; the jobs' numbers.

    Args:
        folder: the study's folder, which every node has to see.
        study: what `sweep.begin` gave.
        options: as of a sweep.
        job: what a measurement asks for; its GPUs are those of the cell.
        say: called with a line for each array.

    Raises:
        SegkitError: sbatch is not there, or refuses.
    """
    written = write_jobs(folder, study, options, job)
    if written is None:
        say("all measurements are there")
        return []
    jobs = []
    for script, count, gpus in written.arrays:
        jobs.append(hand_over([str(script)]))
        say(f"job {jobs[-1]}: {count} measurements" + (f" of {gpus} GPU{'s' * (gpus > 1)}" if gpus else ""))
    last = hand_over([f"--dependency=afterany:{':'.join(jobs)}", str(written.gather)])
    say(f"job {last}: gathers the results into {folder.results}")
    return [*jobs, last]


def write_jobs(folder: StudyFolder, study: Study, options: SweepOptions, job: JobConfig) -> Jobs | None:
    """Prepare the dataset and write the scripts of what has no row yet; None where nothing is missing."""
    missing = missing_tasks(folder, study, options)
    if not missing:
        return None
    prepare(folder, study)
    path = folder.path.resolve()
    (path / LOGS).mkdir(parents=True, exist_ok=True)
    words = [f"--output={path}"]
    more = [f"--{name}" for name in ("retry", "keep") if getattr(options, name)]
    measuring = replace(job, log=job.log or str(path / LOGS / "%A_%a.log"), name=job.name or "segkit-sweep")
    arrays = []
    for gpus, tasks in missing.items():
        script = path / f"array-{gpus}gpu.sbatch"
        cells = Script("sweep", "sweep", [*words, *more], gpus=gpus, array=array(tasks))
        write_text(script, cells.text(measuring))
        arrays.append((script, len(tasks), gpus))
    gathering = replace(
        job,
        log=str(path / LOGS / "%j.log"),
        name="segkit-gather",
        cpus=1,
        mem="",
        sbatch=shlex.join(_for_gathering(sbatch_words(job))),
    )
    gather = path / "gather.sbatch"
    write_text(gather, Script("sweep", "sweep", [*words, "--gather"], gpus=0).text(gathering))
    return Jobs(arrays, gather)


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
