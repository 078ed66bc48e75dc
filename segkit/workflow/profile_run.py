"""`segkit profile`: the differential stall analysis of a training job, and its verification by a real run."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from segkit.caches import keep_compiled_in
from segkit.data.config import AUTO_WORKERS, DataConfig
from segkit.errors import SegkitError
from segkit.files import write_json
from segkit.profiling.analysis import JOB, read_ranks, steady_rate
from segkit.profiling.profiler import Profiler
from segkit.profiling.records import LineFile
from segkit.profiling.stalls.differential import analyse
from segkit.profiling.stalls.measure import Feed
from segkit.profiling.stalls.prediction import candidates
from segkit.profiling.stalls.record import write_differential
from segkit.profiling.summary import Differential, Verification
from segkit.resources import cache_folder
from segkit.training.config import TrainConfig
from segkit.training.dataset import open_dataset
from segkit.training.distributed import World
from segkit.workflow.choose_workers import shared_memory, with_room
from segkit.workflow.describe import job_description, make_deterministic, resolve, with_frame
from segkit.workflow.training_workload import TrainingWorkload

TOLERANCE = 0.10  # of a prediction
VERIFY_SECONDS = 20.0
VERIFY_STEPS = 30  # at least


@dataclass(frozen=True)
class ProfileOptions:
    """What `segkit profile` was asked for."""

    seconds: float = 20.0  # the longest that one setting is measured
    counts: tuple[int, ...] = ()  # worker counts to try; none: 0 to the granted CPUs
    cold: bool = True
    verify: bool = False


def profile_run(
    config: TrainConfig, world: World, folder: Path, options: ProfileOptions, say: Callable[[str], None]
) -> Differential:
    """Analyse the job that `config` describes, and write the records under `folder`/profile.

    Raises:
        SegkitError: as the parts say; or the verifying run failed.
    """
    if config.data.workers == AUTO_WORKERS:  # that asks for what this finds out: it starts from the default
        config = config.replace(workers=DataConfig.workers)
    config = resolve(config, world)
    keep_compiled_in(cache_folder(folder.parent))
    data = open_dataset(config.data, runs=folder.parent, device=world.device, seed=config.system.seed)
    config = with_frame(config, data)
    room = shared_memory(config, world, data)
    config = with_room(config, world, room)
    make_deterministic(config)
    profile = folder / "profile"
    with Profiler(profile, device=world.device, workers=config.data.workers, loader=config.data.loader, quiet=True):
        write_json(profile / JOB, job_description(config, data))
        workload = TrainingWorkload(config, world, data, runs=folder.parent)
        wanted = options.counts or candidates(workload.cpus, config.data.workers)
        differential, present = analyse(
            workload,
            Feed(config.data.loader, config.data.workers, config.data.prefetch, config.data.pin),
            seconds=options.seconds,
            counts=[count for count in wanted if room is None or room.most(count) == count],
            cold=options.cold,
            settings={"batch": config.data.batch, "epochs": config.optim.epochs},
            say=say,
        )
        steps = LineFile(profile / "steps-rank0.jsonl")
        for k, record in enumerate(sorted(present, key=lambda r: r.t)):
            steps.add(replace(record, step=k + 1))
        steps.flush()
    if options.verify:
        differential = replace(differential, verification=verify(config, differential, folder.parent, say))
    write_differential(profile, differential)
    return differential


def verify(config: TrainConfig, differential: Differential, runs: Path, say: Callable[[str], None]) -> Verification:
    """Whether a real training with the recommended setting runs at the predicted rate (within 10 %).

    It is `segkit train` in a process of its own, with what the analysis leaves out: checkpoints, logging, validation.
    """
    chosen = next(point for point in differential.curve if point.chosen)
    if chosen.images_per_s is None:
        raise SegkitError("nothing was measured that could be verified")
    predicted = chosen.images_per_s.value
    steps = max(VERIFY_STEPS, round(VERIFY_SECONDS * predicted / config.data.batch))
    say(f"verifying: segkit train --loader {chosen.loader} --workers {chosen.workers} for {steps} steps")
    with tempfile.TemporaryDirectory(dir=runs, prefix=".verify-") as folder:
        run = Path(folder) / "run"
        settings = config.replace(
            loader=chosen.loader, workers=chosen.workers, steps=steps, epochs=100000, export=False
        )
        (Path(folder) / "settings.toml").write_text(settings.to_toml(), encoding="utf-8")
        command = ["train", "--config", f"{folder}/settings.toml", "--run", str(run)]
        _train(command, runs)
        measured = steady_rate(read_ranks(run / "profile"))
    if measured is None:
        raise SegkitError("the verifying run left no records")
    holds = abs(measured.value / predicted - 1) <= TOLERANCE
    return Verification(chosen.workers, chosen.loader, predicted, measured, holds)


def _train(words: Sequence[str], cache_beside: Path) -> None:
    # The run lies one folder deeper than the runs that share a cache.
    environment = {"SEGKIT_CACHE": str(cache_beside.resolve() / ".segkit-cache"), **os.environ}
    done = subprocess.run(
        [sys.executable, "-m", "segkit", *words], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise SegkitError(f"the verifying run failed: {last.removeprefix('segkit: ')}")
