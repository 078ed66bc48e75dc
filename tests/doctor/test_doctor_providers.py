"""Execution providers tried for real, and libraries that are missing or crash."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from segkit.doctor.elf import missing, needed
from segkit.doctor.provider_process import TWICE
from tests.doctor.conftest import Machine, compiled

CUDA = "CUDAExecutionProvider"
CHECKED = "providers.check_onnxruntime(gpu.Gpus({usable}, 13000))"


def cuda_libraries() -> list[str]:
    """What the CUDA provider of the installed ONNX Runtime needs; the test is skipped without one."""
    onnxruntime = pytest.importorskip("onnxruntime")
    library = Path(onnxruntime.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"
    if CUDA not in onnxruntime.get_available_providers() or not library.exists():
        pytest.skip("this ONNX Runtime has no CUDA")
    return [name for name in needed(library) if name.startswith("libcu")]


def test_the_tiny_model_doubles() -> None:
    model = onnx.load_from_string(TWICE)
    onnx.checker.check_model(model)
    x = np.array([1, 2, -3, 0.5], np.float32)
    np.testing.assert_array_equal(ReferenceEvaluator(model).run(None, {"x": x})[0], 2 * x)


def test_needed_and_missing_libraries_are_named_by_the_dynamic_section(tmp_path: Path) -> None:
    for name in ("libsegkit_one.so.1", "libsegkit_two.so"):
        compiled("int f(void) { return 1; }", tmp_path / name)
    target = tmp_path / "libsegkit_all.so"
    compiled(
        "int f(void); int g(void) { return f(); }", target, "-Wl,--no-as-needed", *map(str, tmp_path.glob("*.so*"))
    )
    assert {"libsegkit_one.so.1", "libsegkit_two.so", "libc.so.6"} <= set(needed(target))
    (tmp_path / "libsegkit_one.so.1").unlink()
    assert missing(target) == ["libsegkit_one.so.1"]  # the other one lies beside it


def test_what_is_no_library_needs_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\x7fELF\x02\x01" + bytes(100))
    (tmp_path / "b").write_bytes(b"text")
    assert [needed(tmp_path / name) for name in ("a", "b", "c")] == [[], [], []]


@pytest.mark.parametrize(("usable", "severity"), [(True, "warning"), (False, "note")])
def test_a_provider_whose_library_is_missing_is_told_by_its_name(bare: Machine, usable: bool, severity: str) -> None:
    absent = [name for name in cuda_libraries() if not loads(name)]
    if not absent:
        pytest.skip("all libraries of CUDA are here")
    found = {f["check"]: f for f in bare.findings(CHECKED.format(usable=usable))}
    assert found["onnxruntime.cpu"]["severity"] == "ok"
    cuda = found["onnxruntime.cuda"]
    assert cuda["severity"] == severity
    assert cuda["values"]["missing"] == absent
    assert all(name in cuda["fact"] for name in absent)


def loads(name: str) -> bool:
    words = ["/usr/bin/env", "-i", "python3", "-c", f"import ctypes; ctypes.CDLL({name!r})"]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def test_a_provider_that_crashes_is_a_finding(bare: Machine) -> None:
    crash = "#include <signal.h>\n__attribute__((constructor)) static void begin(void) { raise(SIGSEGV); }"
    compiled(crash, bare.libraries / next(name for name in cuda_libraries() if name.startswith("libcublasLt")))
    found = {f["check"]: f for f in bare.findings(CHECKED.format(usable=True))}
    assert found["onnxruntime.cuda"]["severity"] == "warning"
    assert "crashed with SIGSEGV" in found["onnxruntime.cuda"]["fact"]
    assert found["onnxruntime.cpu"]["severity"] == "ok"


def test_without_onnx_runtime_it_is_one_failure(bare: Machine) -> None:
    (bare.folder / "onnxruntime.py").write_text("raise ModuleNotFoundError('No module named onnxruntime')")
    path = bare.environment()["PYTHONPATH"]
    (finding,) = bare.findings(CHECKED.format(usable=False), PYTHONPATH=f"{bare.folder}:{path}")
    assert finding["severity"] == "failure"
    assert "pip install onnxruntime-gpu" in finding["remedy"]


def test_without_torch_it_is_a_note(bare: Machine) -> None:
    (bare.folder / "torch.py").write_text("raise ModuleNotFoundError('No module named torch', name='torch')")
    path = bare.environment()["PYTHONPATH"]
    (finding,) = bare.findings("torch_build.check_torch(gpu.Gpus())", PYTHONPATH=f"{bare.folder}:{path}")
    assert finding["severity"] == "note"
    assert "segment and serve work" in finding["meaning"]


def test_a_torch_that_cannot_be_imported_is_a_failure(bare: Machine) -> None:
    (bare.folder / "torch.py").write_text("import os; os.abort()")
    path = bare.environment()["PYTHONPATH"]
    (finding,) = bare.findings("torch_build.check_torch(gpu.Gpus())", PYTHONPATH=f"{bare.folder}:{path}")
    assert finding["severity"] == "failure"
    assert "crashed with SIGABRT" in finding["fact"]
