"""`segkit data`, as typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from segkit.cli.data import app
from segkit.data.split import Split
from segkit.errors import ConfigError, FileError


def run(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None:
        raise result.exception
    return result.output


def test_inspect_tells_what_is_there(phantom: Path) -> None:
    text = run("inspect", phantom)
    assert "8 (AA 4, BB 3, CC 1)" in text
    assert "no problems" in text
    assert json.loads(run("inspect", phantom, "--json"))["slices"] == 48


def test_inspect_of_damaged_data_lists_it_and_is_no_failure(tmp_path: Path) -> None:
    run("phantom", tmp_path / "set", "--patients", 1, "--slices", 4, "--size", 64)
    folder = tmp_path / "set" / "PHANTOM_AA_0001"
    (folder / "PHANTOM_AA_0001_2.tif").write_bytes(b"II*\0")
    text = run("inspect", tmp_path / "set")
    assert "1 problem" in text
    assert "PHANTOM_AA_0001_2.tif" in text


def test_inspect_of_nothing_usable_is_an_error(tmp_path: Path) -> None:
    run("phantom", tmp_path / "set", "--patients", 1, "--slices", 4, "--size", 64)
    for mask in (tmp_path / "set").rglob("*_mask.tif"):
        mask.write_bytes(mask.read_bytes()[:-4096] + b"\x07" * 4096)
    with pytest.raises(FileError, match="no slice that can be used"):
        run("inspect", tmp_path / "set")


def test_split(tmp_path: Path, phantom: Path) -> None:
    file = tmp_path / "new" / "split.json"
    text = run("split", phantom, "-o", file, "--seed", 3)
    split = Split.load(file)
    assert split.sha256 in text
    assert split.seed == 3
    assert [len(split.train), len(split.val), len(split.test)] == [6, 1, 1]
    run("split", phantom, "-o", file, "--fractions", "0.5,0.25,0.25")
    assert len(Split.load(file).test) == 2


def test_folds_are_files_of_their_own(tmp_path: Path, phantom: Path) -> None:
    run("split", phantom, "-o", tmp_path / "cv.json", "--folds", 4)
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == [f"cv-fold-{fold}.json" for fold in range(4)]
    assert len({name for file in files for name in Split.load(file).test}) == 8


def test_fractions_that_are_no_numbers(tmp_path: Path, phantom: Path) -> None:
    with pytest.raises(ConfigError, match="fractions"):
        run("split", phantom, "-o", tmp_path / "s.json", "--fractions", "most")
    assert not (tmp_path / "s.json").exists()
