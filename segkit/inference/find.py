"""Which file a model's name means."""

from __future__ import annotations

from pathlib import Path

from segkit.errors import SegkitError
from segkit.inference.catalogue import find_installed, installed

MODEL_FILE = "model.onnx"
_HOW = "`segkit train` makes one, `segkit export RUN` writes it from a run that lacks it"


def find_model(name: str | Path | None, *, device: str = "cpu", runs: Path = Path("runs")) -> Path:
    """The ONNX file that `name` means.

    `name` is a file, a folder with model.onnx (a run), the name of an installed model, or the beginning of the
    name of a run under `runs` (the newest with a model counts). None is the package's default model
    on the `device`, "cpu" or "cuda" (`session.expected_device`).

    Raises:
        SegkitError: none is found; the message lists what there is. FileError: an installed model is damaged.
    """
    path = Path(name) if name is not None else None
    if path is not None and path.is_file():
        return path
    if path is not None and path.is_dir():
        if (path / MODEL_FILE).is_file():
            return path / MODEL_FILE
        raise SegkitError(f"{path}: holds no {MODEL_FILE}; write it with `segkit export {path}`")
    known = find_installed(None if name is None else str(name), device)
    if known is not None:
        return known.checked()
    if name is None:
        raise SegkitError(
            f"--model is required: an .onnx file, a run directory or a run's name{_there_is(runs)}; {_HOW}"
        )
    found = sorted(_named(runs, str(name)), key=lambda model: model.stat().st_mtime)
    if found:
        return found[-1]
    raise SegkitError(f"{name}: no such model file, run directory, installed model or run{_there_is(runs)}; {_HOW}")


def _named(runs: Path, name: str) -> list[Path]:
    """Models of runs, and of runs one folder further down, whose name begins with `name`."""
    return [model for model in _models(runs) if model.parent.name.startswith(name)]


def _models(runs: Path) -> list[Path]:
    return [*runs.glob(f"*/{MODEL_FILE}"), *runs.glob(f"*/*/{MODEL_FILE}")]


def _there_is(runs: Path) -> str:
    models = [*(model.name for model in installed()), *sorted(str(model.parent) for model in _models(runs))]
    if not models:
        return f" (there is none under {runs}/)"
    shown = ", ".join(models[:8])
    return f" (there is: {shown}{', ...' if len(models) > 8 else ''})"
