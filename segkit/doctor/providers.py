"""ONNX Runtime: its build, and each execution provider tried with a real session."""

from __future__ import annotations

from typing import Any

from segkit.container import APPTAINER, runtime
from segkit.doctor.child import ask
from segkit.doctor.finding import Finding, failure, note, ok, warning
from segkit.doctor.gpu import Gpus

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_PROCESS = "segkit.doctor.provider_process"
_USED = (CPU, CUDA)  # by segkit; the others are told, and never bad
_PIP = ("libcublas", "libcudart", "libcufft", "libcurand", "libcudnn", "libnvrtc", "libnvJitLink")


def check_onnxruntime(gpus: Gpus) -> list[Finding]:
    """The package and its providers."""
    said = ask(_PROCESS)
    if said.died:
        remedy = "install it again: pip install --force-reinstall onnxruntime-gpu"
        return [failure("onnxruntime", f"importing ONNX Runtime {said.died}", "segment and serve cannot run.", remedy)]
    if "version" not in said.values:
        what = f"ONNX Runtime cannot be imported: {said.values['missing']}"
        remedy = "pip install onnxruntime-gpu (or onnxruntime, without GPU)"
        return [failure("onnxruntime", what, "segment and serve cannot run.", remedy)]
    return [_build(said.values, gpus), *(_provider(name, gpus) for name in said.values["providers"])]


def _build(values: dict[str, Any], gpus: Gpus) -> Finding:
    what = f"{values['package']} {values['version']}" + (f", built for CUDA {values['cuda']}" if values["cuda"] else "")
    if not gpus.usable:
        return ok("onnxruntime", what, "It is there.", **values)
    if CUDA not in values["providers"]:
        remedy = "pip uninstall onnxruntime; pip install onnxruntime-gpu"
        return warning(
            "onnxruntime", f"{what}, without CUDA", "segment and serve leave the GPU idle.", remedy, **values
        )
    problem = gpus.too_old_for(values["cuda"])
    if problem:
        return warning(
            "onnxruntime", f"{what}; {problem}", "segment and serve leave the GPU idle.", gpus.newer, **values
        )
    return ok("onnxruntime", what, "It fits the driver.", **values)


def _provider(name: str, gpus: Gpus) -> Finding:
    said = ask(_PROCESS, name)
    short = name.removesuffix("ExecutionProvider")
    check = f"onnxruntime.{short.lower()}"
    values: dict[str, Any] = {"provider": name, **said.values}
    if said.died:
        fact = f"{short}: creating a session {said.died}"
        values |= {"works": False, "why": said.died}
    elif said.values["works"]:
        return ok(check, f"{short}: a session computes", "This provider works.", **values)
    elif said.values["missing"]:
        fact = f"{short}: cannot be loaded, for {_listed(said.values['missing'])} {_is(said.values['missing'])} missing"
    else:
        fact = f"{short}: {said.values['why']}"
    return _does_not_work(check, name, fact, values, gpus)


def _does_not_work(check: str, name: str, fact: str, values: dict[str, Any], gpus: Gpus) -> Finding:
    remedy = _remedy(values.get("missing", []))
    if name == CPU:
        return failure(check, fact, "segment and serve cannot run here.", "install ONNX Runtime again", **values)
    if name not in _USED:
        return note(check, fact, "segkit does not use this provider.", **values)
    if gpus.usable:
        meaning = "segment and serve use the CPU, though there is a GPU."
        return warning(check, fact, meaning, remedy or "see what the driver says with nvidia-smi", **values)
    return note(check, fact, "segment and serve use the CPU, as there is no usable GPU.", **values)


def _remedy(missing: list[str]) -> str:
    words = []
    if any(name.startswith(_PIP) for name in missing):
        words.append("pip install 'onnxruntime-gpu[cuda,cudnn]'")
    if any(name.startswith("libcuda.so") for name in missing):
        words.append("start the container with --nv" if runtime() == APPTAINER else "give the driver's libcuda.so.1")
    others = [name for name in missing if not name.startswith((*_PIP, "libcuda.so"))]
    if others:
        words.append(f"install what holds {_listed(others)}")
    return "; ".join(words)


def _listed(names: list[str]) -> str:
    return ", ".join(names)


def _is(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"
