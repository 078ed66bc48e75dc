"""ONNX Runtime's own reports to its makers stay off."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from threshold_model import write_threshold_model

from tests.conftest import ROOT

PROGRAM = """
import sys
from pathlib import Path
from segkit.inference.session import Model
Model.load(Path(sys.argv[1]))
"""


@pytest.mark.parametrize("wanted", [None, "1"])
def test_a_session_leaves_no_identifier_in_the_home_folder(tmp_path: Path, wanted: str | None) -> None:
    home = tmp_path / "home"
    home.mkdir()
    # Not the environment of the tests: in continuous integration ONNX Runtime is silent by itself.
    environment = {"PYTHONPATH": str(ROOT), "HOME": str(home), "PATH": "/usr/bin:/bin"}
    environment |= {"ORT_DISABLE_TELEMETRY": wanted} if wanted else {}
    model = write_threshold_model(tmp_path / "model.onnx")
    subprocess.run([sys.executable, "-c", PROGRAM, str(model)], env=environment, check=True)
    assert [path.name for path in home.rglob("*")] == []
