"""A copy of a dataset on a node's own disk, where a shared file system would be read in every epoch."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from segkit.data.packed import locked
from segkit.errors import FileError


def staged(data: Path, stage: Path) -> Path:
    """The copy of `data` in the folder `stage`, made at the first call; names and times of the files are kept.

    It appears whole. Of several ranks on a node one copies while the others wait. Who gives the folder removes it.

    Raises:
        FileError: the folder cannot be written, or has too little space.
    """
    copy = stage / data.resolve().name
    try:
        stage.mkdir(parents=True, exist_ok=True)
        with locked(stage / f".{copy.name}.lock"):
            if not copy.exists():
                _check_space(data, stage)
                _copy(data, copy)
    except OSError as error:  # shutil.Error of many files, too
        reason = error.strerror or str(error).splitlines()[0][:200]
        raise FileError(stage, f"the dataset cannot be copied there ({reason})", "leave --stage out") from error
    return copy


def _copy(data: Path, copy: Path) -> None:
    folder = Path(tempfile.mkdtemp(dir=copy.parent, prefix=f".{copy.name}."))
    try:
        shutil.copytree(data, folder, dirs_exist_ok=True)
        folder.rename(copy)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check_space(data: Path, stage: Path) -> None:
    files = (Path(folder) / name for folder, _, names in os.walk(data, followlinks=True) for name in names)
    needed, free = sum(path.stat().st_size for path in files), shutil.disk_usage(stage).free
    if needed > free:
        raise FileError(
            stage, f"has {free / 1e9:.1f} GB free, the dataset is {needed / 1e9:.1f} GB", "leave --stage out"
        )
