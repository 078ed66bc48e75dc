from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from segkit.data import stage
from segkit.errors import FileError


def files(folder: Path) -> dict[str, tuple[bytes, float]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime)
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_copy_has_the_files_and_their_times_and_is_made_once(phantom: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:  # ranks that start at once
        copies = set(pool.map(lambda _: stage.staged(phantom, tmp_path / "local disk"), range(4)))
    (copy,) = copies
    assert files(copy) == files(phantom)
    (copy / "mark").touch()
    assert (stage.staged(phantom, tmp_path / "local disk") / "mark").exists()
    assert {path.name for path in (tmp_path / "local disk").iterdir()} == {copy.name, f".{copy.name}.lock"}


def test_a_full_disk_is_told_before_anything_is_copied(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(stage.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(FileError, match="GB free, the dataset is"):
        stage.staged(phantom, tmp_path / "small")
    assert not (tmp_path / "small" / phantom.name).exists()


def test_a_place_that_cannot_be_written_is_one_line(phantom: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="cannot be copied there"):
        stage.staged(phantom, tmp_path / "file" / "below")
