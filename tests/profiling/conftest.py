"""A driver's library to run the real nvidia-ml-py against: nvml_stub.c, compiled here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
HIDDEN = ("CUDA_", "NVIDIA_", "NVML_", "SLURM_", "LD_LIBRARY_PATH")


@dataclass(frozen=True)
class NvmlStub:
    """Runs programs on a machine whose GPUs a script describes (see nvml_stub.c)."""

    folder: Path  # of this test
    current: Path  # folder of the library
    old: Path  # the same, of a driver from before 2023

    def environment(self, script: str, *, old: bool = False, **more: str) -> dict[str, str]:
        """The environment of a process that finds this library."""
        file = self.folder / "gpus.txt"
        file.write_text(script)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(HIDDEN)}
        library = self.old if old else self.current
        paths = {"LD_LIBRARY_PATH": str(library), "PYTHONPATH": str(ROOT), "NVML_STUB_SCRIPT": str(file)}
        return {**kept, **paths, "SLURM_CPUS_PER_TASK": "1", **more}

    def run(self, program: str, script: str, *, old: bool = False, **more: str) -> Any:
        """Run a Python program; what it prints last is JSON, and nothing may stand on its standard error."""
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=self.environment(script, old=old, **more),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return json.loads(done.stdout.splitlines()[-1])


def compile_library(folder: Path, name: str, *flags: str) -> Path:
    """Compile the stub to folder/name; the test is skipped where there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs Linux and a C compiler (cc)")
    folder.mkdir(parents=True, exist_ok=True)
    source = Path(__file__).with_name("nvml_stub.c")
    warnings = ("-Wall", "-Wextra", "-Werror")
    subprocess.run([compiler, *warnings, *flags, "-shared", "-fPIC", "-o", folder / name, source, "-lm"], check=True)
    return folder


@pytest.fixture(scope="session")
def nvml_libraries(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders with the library of a current and of an old driver."""
    pytest.importorskip("pynvml")
    folder, name = tmp_path_factory.mktemp("nvml"), "libnvidia-ml.so.1"
    return compile_library(folder / "current", name), compile_library(folder / "old", name, "-DOLD_DRIVER")


@pytest.fixture
def nvml_stub(nvml_libraries: tuple[Path, Path], tmp_path: Path) -> NvmlStub:
    """A machine with scripted GPUs."""
    return NvmlStub(tmp_path, *nvml_libraries)
