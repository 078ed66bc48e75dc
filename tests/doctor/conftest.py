"""Machines to examine: libraries of a driver that are compiled here, beside NVML's."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.profiling.conftest import compile_library

# Not the environment of the tests, which may hold anything.
BARE = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}


@dataclass(frozen=True)
class Machine:
    """Runs programs that find these libraries first."""

    folder: Path
    libraries: Path

    def environment(self, **more: str) -> dict[str, str]:
        """What they find in their environment, and nothing else."""
        return {**BARE, "LD_LIBRARY_PATH": str(self.libraries), **more}

    def findings(self, expression: str, **more: str) -> list[dict[str, Any]]:
        """The findings that a Python expression gives; `doctor` modules are imported by name."""
        program = (
            "import json, sys\nfrom pathlib import Path\n"
            "from segkit.doctor import gpu, host, limits, network, places, providers, slurm, torch_build\n"
            "from segkit.doctor.page import to_plain\n"
            f"print(json.dumps(to_plain({expression})['findings']))"
        )
        words = [sys.executable, "-c", program]
        done = subprocess.run(
            words, env=self.environment(**more), cwd=self.folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return list(json.loads(done.stdout.splitlines()[-1]))


def compiled(source: str, target: Path, *flags: str) -> None:
    """Compile a C program to a shared library; the test is skipped without a compiler."""
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs Linux and a C compiler (cc)")
    target.parent.mkdir(parents=True, exist_ok=True)
    command = [compiler, "-x", "c", "-", "-shared", "-fPIC", "-Wl,-soname," + target.name, "-o", str(target)]
    subprocess.run([*command, "-x", "none", *flags], input=source, text=True, check=True)


@pytest.fixture
def bare(tmp_path: Path) -> Machine:
    """A machine without a driver."""
    (tmp_path / "libraries").mkdir()
    return Machine(tmp_path, tmp_path / "libraries")


@pytest.fixture
def with_gpus(bare: Machine) -> Machine:
    """A machine whose driver says what CUDA_STUB and NVML_STUB_SCRIPT say."""
    pytest.importorskip("pynvml")
    compile_library(bare.libraries, "libnvidia-ml.so.1")
    compiled(Path(__file__).with_name("cuda_stub.c").read_text(), bare.libraries / "libcuda.so.1")
    return bare
