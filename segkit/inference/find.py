"""Which file a model's name means."""

from __future__ import annotations

from pathlib import Path

from segkit.errors import SegkitError
from segkit.resources import cache_folder

MODEL_FILE = "model.onnx"
_HOW = "`segkit train` makes one, `segkit export RUN` writes it from a run that lacks it"


def find_model(name: str | Path | None, *, runs: Path = Path("runs")) -> Path:
    """The ONNX file that `name` means.

    `name` is a file, a folder with model.onnx (a run), or the beginning of the name of a run under `runs`
    (the newest with a model counts) or of a file in the cache's `models` folder.

    Raises:
        SegkitError: none is given or none is found; the message lists what there is.
    """
    if name is None:
        raise SegkitError(
            f"--model is required: an .onnx file, a run directory or a run's name{_there_is(runs)}; {_HOW}"
        )
    path = Path(name)
    if path.is_file():
        return path
    if path.is_dir():
        if (path / MODEL_FILE).is_file():
            return path / MODEL_FILE
        raise SegkitError(f"{path}: holds no {MODEL_FILE}; write it with `segkit export {path}`")
    cached = cache_folder(runs) / "models" / f"{name}.onnx"
    found = sorted(_named(runs, str(name)), key=lambda model: model.stat().st_mtime)
    if found:
        return found[-1]
    if cached.is_file():
        return cached
    raise SegkitError(f"{name}: no such model file, run directory or run{_there_is(runs)}; {_HOW}")


def _named(runs: Path, name: str) -> list[Path]:
    """Models of runs, and of runs one folder further down, whose name begins with `name`."""
    return [model for model in _models(runs) if model.parent.name.startswith(name)]


def _models(runs: Path) -> list[Path]:
    return [*runs.glob(f"*/{MODEL_FILE}"), *runs.glob(f"*/*/{MODEL_FILE}")]


def _there_is(runs: Path) -> str:
    models = sorted(str(model.parent) for model in _models(runs))
    models += sorted(str(model) for model in (cache_folder(runs) / "models").glob("*.onnx"))
    if not models:
        return f" (there is none under {runs}/)"
    shown = ", ".join(models[:8])
    return f" (there is: {shown}{', ...' if len(models) > 8 else ''})"
