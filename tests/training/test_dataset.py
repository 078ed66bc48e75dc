from __future__ import annotations

from pathlib import Path

import pytest

from segkit.data.phantom import write_phantom
from segkit.errors import FileError
from segkit.training.dataset import locate


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEGKIT_DATA", raising=False)
    return tmp_path


def test_the_flag_comes_first_then_the_environment(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "a").mkdir()
    (here / "b").mkdir()
    monkeypatch.setenv("SEGKIT_DATA", str(here / "b"))
    assert locate("a") == Path("a")
    assert locate("") == here / "b"
    monkeypatch.setenv("SEGKIT_DATA", "absent")
    with pytest.raises(FileError, match="absent"):
        locate("")


def test_a_dataset_here_is_found_and_preferred_to_an_old_phantom(here: Path) -> None:
    write_phantom(here / "mine", patients=3, slices=4, size=64)
    assert locate("") == here / "mine"
    write_phantom(here / "phantom", patients=3, slices=4, size=64)
    assert locate("") == here / "mine"
    write_phantom(here / "other", patients=3, slices=4, size=64)
    with pytest.raises(FileError, match="several datasets"):
        locate("")


def test_with_nothing_here_a_phantom_is_written_with_a_warning(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert locate("") == Path("phantom")
    assert "phantom" in capsys.readouterr().err
    assert locate("").absolute() == here / "phantom"
    assert "phantom" in capsys.readouterr().err
