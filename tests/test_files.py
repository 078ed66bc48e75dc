from __future__ import annotations

import os
from pathlib import Path

import pytest

from segkit.errors import FileError
from segkit.files import atomic_path, read_json, sha256_of, write_json


def test_a_failure_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    target = tmp_path / "mask.nii.gz"
    target.write_text("old")

    def write_half() -> None:
        with atomic_path(target) as temporary:
            assert temporary.name.endswith(".nii.gz")
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_the_new_file_has_ordinary_permissions(tmp_path: Path) -> None:
    write_json(tmp_path / "a" / "b.json", {"x": 1})
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "a" / "b.json").stat().st_mode & 0o777 == 0o666 & ~mask
    assert read_json(tmp_path / "a" / "b.json") == {"x": 1}


def test_an_unwritable_place_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot be written"):
        write_json(tmp_path / "file" / "x.json", {})


def test_nan_is_no_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        write_json(tmp_path / "x.json", float("nan"))
    assert not list(tmp_path.iterdir())


def test_hash_does_not_depend_on_key_order() -> None:
    assert sha256_of({"a": 1, "b": 2}) == sha256_of({"b": 2, "a": 1})
    # printf '{"a":[1,2]}' | sha256sum
    assert sha256_of({"a": [1, 2]}) == "01530d164d479cf08e26d3b1ad9bdba927120d97e2d057a6d792db778780d720"
