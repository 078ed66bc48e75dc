from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from segkit import __version__
from segkit.cli.main import VERBS
from tests.conftest import Run, clean_environment


def test_version_and_help(segkit: Run) -> None:
    assert segkit("--version").stdout.strip() == __version__
    shown = segkit("--help").stdout
    assert all(verb in shown for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_every_verb_comes_without_torch(verb: str, tmp_path: Path) -> None:
    code = (
        "import sys; from segkit.cli.main import main\n"
        f"sys.argv = ['segkit', {verb!r}, '--help']\n"
        "try: main()\n"
        "except SystemExit as done: assert not done.code, done.code\n"
        "heavy = {'torch', 'scipy', 'matplotlib', 'onnxruntime'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], env=clean_environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout


def test_every_default_of_the_training_flags_is_shown(segkit: Run) -> None:
    shown = " ".join(segkit("train", "--help", COLUMNS="200").stdout.split())
    assert "--lr" in shown
    assert "(default: 0.002)" in shown
    assert "--no-channels-last" in shown


def test_training_without_its_packages_is_one_line(tmp_path: Path) -> None:
    """An installation without PyTorch: its import fails as it would there."""
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError('No module named torch', name='torch')")
    environment = clean_environment()
    environment["PYTHONPATH"] = f"{tmp_path}:{environment['PYTHONPATH']}"
    words = [sys.executable, "-m", "segkit", "train", "--data", str(tmp_path)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "segkit: train needs the package torch; pip install 'segkit[train]'\n"


def test_a_reader_that_has_gone_is_no_error(segkit: Run, phantom: Path) -> None:
    words = f"{sys.executable} -m segkit data inspect {phantom} | true"
    done = subprocess.run(["bash", "-c", words], env=clean_environment(), capture_output=True, text=True)
    assert "Traceback" not in done.stderr
