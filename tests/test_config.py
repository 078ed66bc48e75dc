from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from segkit.data.config import DataConfig
from segkit.errors import ConfigError, FileError
from segkit.training.config import SECTIONS, TrainConfig


def test_written_configuration_reads_back_equal(tmp_path: Path) -> None:
    config = TrainConfig().replace(data='a "quoted" \\ path', lr=1e-7, compile=True, width=16)
    path = tmp_path / "config.toml"
    path.write_text(config.to_toml())
    assert TrainConfig.load(path) == config
    assert tomllib.loads(path.read_text())["data"]["data"] == 'a "quoted" \\ path'


def test_flags_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("[optim]\nlr = 0.5\nepochs = 3\n")
    config = TrainConfig.load(path, {"epochs": 7})
    assert (config.optim.lr, config.optim.epochs, config.data.batch) == (0.5, 7, DataConfig().batch)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[optim]\nlr = -1\n", "lr = -1.0"),
        ("[optim]\nlr = 'fast'\n", "lr = 'fast'"),
        ("[optim]\nspeed = 1\n", "optim.speed"),
        ("[training]\nlr = 1\n", "[training]"),
        ("[data]\nloader = 'magic'\n", "files, packed, resident"),
        ("[data]\nbatch = true\n", "batch = True"),
        ("[data]\nsize = 100\n", "multiple of 32"),
        ("lr = 1\n", "inside a section"),
    ],
)
def test_a_bad_value_is_refused_with_its_key_and_what_is_allowed(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        TrainConfig.load(path)
    assert named in str(caught.value)


def test_a_file_that_is_not_toml_is_named(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("not toml")
    with pytest.raises(FileError, match=r"c\.toml: is not TOML"):
        TrainConfig.load(path)


def test_keys_are_unique_over_the_sections() -> None:
    keys = [key for kind in SECTIONS.values() for key in kind.__dataclass_fields__]
    assert len(keys) == len(set(keys))
