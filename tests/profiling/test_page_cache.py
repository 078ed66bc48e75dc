"""Real files on the disk that the tests run on."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from segkit.profiling.stalls import page_cache
from segkit.profiling.stalls.page_cache import drop, resident_share, warm
from tests.profiling.disk import came_from_disk, write_files

PAGE = mmap.PAGESIZE


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Eight files of 40 pages and a bit."""
    files = write_files(tmp_path, 8, 40 * PAGE + 7)
    for file in files:
        file.read_bytes()
    return files


def test_from_warm_to_cold_and_back(files: list[Path]) -> None:
    contents = [path.read_bytes() for path in files]
    assert resident_share(files) == 1.0
    assert drop(files) == ""
    assert resident_share(files) == 0.0
    assert all(came_from_disk(path) for path in files)
    assert resident_share(files) == 1.0
    assert not any(came_from_disk(path) for path in files)
    assert [path.read_bytes() for path in files] == contents


def test_what_is_to_be_warm_is_read(files: list[Path]) -> None:
    drop(files)
    assert warm(files) == ""
    assert not any(came_from_disk(path) for path in files)


def test_reading_ends_in_time(files: list[Path]) -> None:
    drop(files)
    assert warm(files, most_seconds=-1.0) == "only 0 % of the data was read into the page cache within -1 s"
    assert came_from_disk(files[0])


def test_the_share_counts_pages_not_files(files: list[Path]) -> None:
    drop(files)
    files[0].read_bytes()
    assert resident_share(files) == pytest.approx(1 / 8)


def test_freshly_written_files_are_dropped_too(tmp_path: Path, files: list[Path]) -> None:
    fresh = tmp_path / "fresh.bin"
    fresh.write_bytes(os.urandom(100 * PAGE))  # not on the disk yet
    assert drop([fresh]) == ""
    assert came_from_disk(fresh)


def test_pages_that_a_process_has_mapped_stay_and_that_is_said(files: list[Path]) -> None:
    with files[0].open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert sum(mapped[at] for at in range(0, len(mapped), PAGE)) >= 0  # every page: now they are in this process
        problem = drop(files[:2])
    assert problem == "50 % of the data stayed in the page cache"
    assert drop(files[:2]) == ""


def test_a_few_pages_may_stay(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with files[0].open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert mapped[0] >= 0
        monkeypatch.setattr(page_cache, "STILL_CACHED", 0.9)
        assert drop(files) == ""


def test_a_file_that_is_gone_is_named(tmp_path: Path, files: list[Path]) -> None:
    problem = drop([files[0], tmp_path / "gone.tif"])
    assert problem == f"{tmp_path / 'gone.tif'} could not be dropped from the page cache (No such file or directory)"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "secret.tif"
    path.write_bytes(b"x")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("root reads every file")
    assert drop([path]) == f"{path} could not be dropped from the page cache (Permission denied)"


def test_empty_files_have_no_pages(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    assert resident_share([empty]) == 0.0
    assert drop([empty]) == ""
    assert drop([]) == ""


def test_what_cannot_be_told_is_none(tmp_path: Path) -> None:
    assert resident_share([tmp_path / "gone"]) is None
