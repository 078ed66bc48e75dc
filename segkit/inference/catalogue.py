"""The models that are installed: those that come with the package, and those that a user added."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import segkit
from segkit.errors import ConfigError, FileError, SegkitError
from segkit.files import atomic_path, file_sha256, read_json, write_json

PACKAGED = Path(segkit.__file__).parent / "pretrained"
INDEX = "models.json"  # {"default": {device: name}, "models": {name: {"sha256": ...}}}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Installed:
    """A model that is known by its name."""

    name: str
    path: Path
    sha256: str  # "" for a file that was put there by hand
    packaged: bool
    default_on: tuple[str, ...] = ()  # the devices ("cpu", "cuda") where it is taken without a name

    @property
    def card(self) -> Path:
        """Its description; may be absent."""
        return self.path.with_suffix(".md")

    def checked(self) -> Path:
        """The file, if it is what was installed. Raises FileError if it was changed or damaged since."""
        if self.sha256 and file_sha256(self.path) != self.sha256:
            remedy = "install segkit again" if self.packaged else "add it again with `segkit models add`"
            raise FileError(self.path, "is not the file that was installed (its SHA-256 differs)", remedy)
        return self.path


def installed() -> list[Installed]:
    """All of them, the package's first, the default ones at the top."""
    index: dict[str, Any] = {"default": {}, "models": {}}
    if (PACKAGED / INDEX).exists():
        index = read_json(PACKAGED / INDEX)
    own = [
        Installed(name, PACKAGED / f"{name}.onnx", entry["sha256"], True, _devices(index["default"], name))
        for name, entry in index["models"].items()
    ]
    own.sort(key=lambda model: (not model.default_on, model.name))
    folder = added_folder()
    files = sorted(folder.glob("*.onnx")) if folder is not None else []
    taken = {model.name for model in own}
    return [*own, *(Installed(f.stem, f, _recorded(f), False) for f in files if f.stem not in taken)]


def find_installed(name: str | None, device: str = "cpu") -> Installed | None:
    """The one of that name, or for None the default one on "cpu" or "cuda"; None where there is no such model."""
    return next((m for m in installed() if (device in m.default_on if name is None else m.name == name)), None)


def added_folder() -> Path | None:
    """Where added models lie: below SEGKIT_CACHE, else with the user's data; None for a user without a home."""
    cache = os.environ.get("SEGKIT_CACHE")
    if cache:
        return Path(cache) / "models"
    data = os.environ.get("XDG_DATA_HOME")
    try:
        return (Path(data) if data else Path.home() / ".local" / "share") / "segkit" / "models"
    except RuntimeError:  # no HOME, and no such user
        return None


def add_model(file: Path, name: str = "", *, force: bool = False) -> Installed:
    """Copy an exported model, with its card if one lies beside it, to where it is found by `name`.

    Raises:
        ConfigError: a name that cannot be one, or that one of the package's models has.
        FileError: not a model that segkit exported; or the name is taken, without `force`.
        SegkitError: there is nowhere to keep it.
    """
    from segkit.inference.session import Model

    name = name or (file.parent.name if file.name == "model.onnx" else file.stem)
    if not _NAME.fullmatch(name):
        raise ConfigError("name", name, "letters, digits, - _ and .")
    if any(model.packaged and model.name == name for model in installed()):
        raise ConfigError("name", name, "a name that no model of the package has; give another with --name")
    folder = added_folder()
    if folder is None:
        raise SegkitError("there is no home directory to keep models in; set SEGKIT_CACHE to a folder")
    Model.load(file, "cpu")
    target = folder / f"{name}.onnx"
    if target.exists() and not force:
        raise FileError(target, "exists", "give another name with --name, or replace it with --force")
    with atomic_path(target) as temporary:
        shutil.copyfile(file, temporary)
        sha256 = file_sha256(temporary)
        # Before the file: a record without its file is of no consequence, a file with an old record would be refused.
        write_json(_record(target), {"sha256": sha256})
    if file.with_suffix(".md").is_file():
        with atomic_path(target.with_suffix(".md")) as temporary:
            shutil.copyfile(file.with_suffix(".md"), temporary)
    return Installed(name, target, sha256, False)


def _devices(defaults: dict[str, str], name: str) -> tuple[str, ...]:
    return tuple(device for device, default in defaults.items() if default == name)


def _record(model: Path) -> Path:
    return model.with_suffix(".json")


def _recorded(model: Path) -> str:
    try:
        return str(json.loads(_record(model).read_text(encoding="utf-8"))["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
