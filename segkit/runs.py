"""The run directory: the contract between train, evaluate, export and report.

runs/<name>/
    run.json            versions, git commit, host, devices, run id, state
    config.toml         every value as resolved
    split.json          patients of train, val and test, with their hash
    metrics.jsonl       one line an epoch
    checkpoints/        last.pt (to resume), best.pt (to evaluate and export)
    profile/            step times, one file a rank; samples of the devices, one file a node
    report.html         where the time went
    evaluation.json/.md the test figures
    volume.json         what suits the net in volumes, where `segkit tune` has chosen it
    model.onnx          the exported best checkpoint
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import socket
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from segkit import __version__
from segkit.errors import FileError, SegkitError
from segkit.files import read_json, write_json, write_text
from segkit.unwritable import unwritable

RUNS = Path("runs")


@dataclass(frozen=True)
class RunDirectory:
    """Paths and records of one run."""

    path: Path

    @property
    def config(self) -> Path:
        """`config.toml`."""
        return self.path / "config.toml"

    @property
    def split(self) -> Path:
        """`split.json`."""
        return self.path / "split.json"

    @property
    def metrics(self) -> Path:
        """`metrics.jsonl`."""
        return self.path / "metrics.jsonl"

    @property
    def last(self) -> Path:
        """The checkpoint to resume from."""
        return self.path / "checkpoints" / "last.pt"

    @property
    def best(self) -> Path:
        """The checkpoint with the best validation Dice."""
        return self.path / "checkpoints" / "best.pt"

    @property
    def profile(self) -> Path:
        """Folder of the profile records."""
        return self.path / "profile"

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard's event files, where they were asked for."""
        return self.path / "tensorboard"

    @property
    def report(self) -> Path:
        """`report.html`."""
        return self.path / "report.html"

    @property
    def evaluation(self) -> Path:
        """`evaluation.json`; the Markdown lies beside it."""
        return self.path / "evaluation.json"

    @property
    def volume_rule(self) -> Path:
        """`volume.json`."""
        return self.path / "volume.json"

    @property
    def onnx(self) -> Path:
        """`model.onnx`."""
        return self.path / "model.onnx"

    def record(self) -> dict[str, Any]:
        """`run.json` as written; empty where there is none."""
        path = self.path / "run.json"
        return dict(read_json(path)) if path.exists() else {}

    def update_record(self, **values: Any) -> None:
        """Lay `values` over `run.json`."""
        write_json(self.path / "run.json", {**self.record(), **values})

    def epochs(self) -> list[dict[str, Any]]:
        """The lines of `metrics.jsonl`; a torn last line (a killed run) is left out."""
        return list(_json_lines(self.metrics))

    def keep_epochs_before(self, epoch: int) -> None:
        """Drop the lines of epochs that a resumed run will do again."""
        kept = [json.dumps(line) for line in self.epochs() if line["epoch"] < epoch]
        write_text(self.metrics, "".join(line + "\n" for line in kept))

    def append_epoch(self, line: dict[str, Any]) -> None:
        """Add a line to `metrics.jsonl`."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def form(self, form: str) -> Path:
        """`model-<form>.onnx`, a smaller form of the exported model."""
        return self.onnx.with_name(f"{self.onnx.stem}-{form}.onnx")

    @property
    def has_current_model(self) -> bool:
        """Whether there is a `model.onnx`, and not of an earlier checkpoint than the best."""
        return self.onnx.exists() and (not self.best.exists() or self.onnx.stat().st_mtime >= self.best.stat().st_mtime)

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return self.record().get("state") == "finished"

    @property
    def resumable(self) -> bool:
        """Whether there is a state to go on from."""
        return self.last.exists() and not self.finished


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(text)
        except ValueError:
            return


def open_run(path: Path) -> RunDirectory:
    """An existing run. Raises FileError where `path` is not one."""
    if not (path / "run.json").exists():
        raise FileError(path, "is not a run directory (no run.json)", "give the folder that `segkit train` printed")
    return RunDirectory(path)


def new_run_path(model: str, runs: Path = RUNS) -> Path:
    """`runs/<model>-<date-time>`, made unique with a number where that is taken."""
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    names = (f"{model}-{stamp}" + (f"-{n}" if n else "") for n in range(1000))
    return next(runs / name for name in names if not (runs / name).exists())


def latest_run(model: str, runs: Path = RUNS) -> RunDirectory | None:
    """The newest resumable run of a model under `runs`."""
    found = [RunDirectory(path) for path in runs.glob(f"{model}-*") if (path / "run.json").exists()]
    return max((run for run in found if run.resumable), key=lambda run: run.last.stat().st_mtime, default=None)


def create_run(path: Path) -> RunDirectory:
    """Make a new run directory. Raises SegkitError where one is there already, so that no run is overwritten."""
    if (path / "run.json").exists():
        raise SegkitError(f"{path}: holds a run already; go on with it (--resume) or choose another --run")
    run = RunDirectory(path)
    try:
        (path / "checkpoints").mkdir(parents=True, exist_ok=True)
        run.profile.mkdir(exist_ok=True)
    except OSError as error:
        raise unwritable(path, error, "choose a folder with --run") from error
    run.update_record(run_id=uuid.uuid4().hex, state="started")
    return run


def surroundings() -> dict[str, Any]:
    """What a reader needs to know to understand or repeat the run: versions, commit, host, job."""
    packages = ("torch", "numpy", "onnx", "onnxruntime-gpu", "onnxruntime", "nibabel", "pillow")
    return {
        "segkit": __version__,
        "python": platform.python_version(),
        "packages": {name: version for name in packages if (version := _version(name))},
        "commit": _git_commit(),
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "job": {key: value for key, value in sorted(os.environ.items()) if key in _JOB_VARIABLES},
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


_JOB_VARIABLES = (
    "SLURM_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_JOB_NODELIST",
    "SLURM_CPUS_PER_TASK",
    "SLURM_NTASKS",
)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """The commit of the checkout that runs, with "+changes" where it differs; None outside a checkout."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "--no-optional-locks", "-C", str(here), *words],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != here.parent:
            return None
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None
