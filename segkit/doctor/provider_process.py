"""In a process of its own: whether an execution provider of ONNX Runtime loads and computes.

    python -m segkit.doctor.provider_process [PROVIDER]

Without a name: which there are, and what the package was built for.
"""

from __future__ import annotations

import base64
import contextlib
import io
import re
import sys
from pathlib import Path
from typing import Any

from segkit.doctor.child import answer
from segkit.doctor.elf import missing

# y = x + x for four float32 values, as ONNX (opset 17). No package is needed to make it so.
TWICE = base64.b64decode("CAk6OQoOCgF4CgF4EgF5IgNBZGQSBXR3aWNlWg8KAXgSCgoICAESBAoCCARiDwoBeRIKCggIARIECgIIBEIECgAQEQ==")
CPU = "CPUExecutionProvider"


def main() -> None:
    """Answer for the provider in the arguments, or for the package."""
    answer(try_provider(sys.argv[1]) if len(sys.argv) > 1 else describe())


def describe() -> dict[str, Any]:
    """Version, what it was built for, and the providers it offers."""
    try:
        import onnxruntime
    except ImportError as error:
        return {"missing": str(error)}
    built: dict[str, Any] = {}
    with contextlib.suppress(ImportError):
        from onnxruntime.capi import build_and_package_info

        built = vars(build_and_package_info)
    return {
        "version": onnxruntime.__version__,
        "package": str(built.get("package_name", "onnxruntime")),
        "cuda": str(built.get("cuda_version") or ""),
        "providers": onnxruntime.get_available_providers(),
    }


def try_provider(name: str) -> dict[str, Any]:
    """Whether a session on this provider alone computes; else why not, and which libraries are missing."""
    import numpy as np
    import onnxruntime

    if hasattr(onnxruntime, "preload_dlls") and name != CPU:
        with contextlib.redirect_stdout(io.StringIO()):
            onnxruntime.preload_dlls()
    library = _library(Path(onnxruntime.__file__).parent / "capi", name)
    absent = missing(library) if library is not None else []
    if absent:  # it cannot load
        return {"works": False, "missing": absent, "why": ""}
    onnxruntime.set_default_logger_severity(3)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if name != CPU:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        session = onnxruntime.InferenceSession(TWICE, options, providers=[name])
        if session.get_providers()[0] != name:
            return {"works": False, "missing": [], "why": f"ONNX Runtime fell back to {session.get_providers()[0]}"}
        x = np.array([1, -2, 3.5, 0], np.float32)
        right = bool((session.run(None, {"x": x})[0] == 2 * x).all())
    except Exception as error:  # ONNX Runtime's errors have no common base below Exception
        return {"works": False, "missing": [], "why": _first_line(error)}
    return {"works": right, "missing": [], "why": "" if right else "it computes 2 x wrongly"}


def _library(folder: Path, name: str) -> Path | None:
    kind = name.removesuffix("ExecutionProvider").lower()
    return next(iter(sorted(folder.glob(f"libonnxruntime_providers_{kind}.so*"))), None)


def _first_line(error: BaseException) -> str:
    text = (str(error).splitlines() or [type(error).__name__])[0]
    return re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)[:200]


if __name__ == "__main__":
    main()
