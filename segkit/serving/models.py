"""The models that are served: found, loaded, and swapped for newer ones while requests run.

A request keeps the model that it began with; the old one is freed after the last of them.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from segkit.errors import FileError, SegkitError
from segkit.inference.find import MODEL_FILE, find_model
from segkit.inference.session import MANY_SLICES, Model
from segkit.model_metadata import MASK
from segkit.serving.errors import RequestError, sentence_of

_log = logging.getLogger("segkit.serving")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_Stamp = tuple[int, int, int]


@dataclass(frozen=True)
class Served:
    """One version of a model, ready to run."""

    name: str
    version: str
    model: Model
    stamp: _Stamp
    loaded_at: float = field(default_factory=time.time)


@dataclass
class _Entry:
    """All that is known of one model."""

    name: str
    source: Path  # a file, or a folder with a folder for each version
    wanted: bool = True  # False after an unload
    versions: dict[str, Served] = field(default_factory=dict)
    refused: dict[str, _Stamp] = field(default_factory=dict)  # files that could not be loaded, told once
    reason: str = ""  # why the last load failed

    def files(self) -> dict[str, Path]:
        """The file of each version that is on disk now."""
        if not self.source.is_dir():
            return {"1": self.source} if self.source.exists() else {}
        folders = (path for path in self.source.iterdir() if path.name.isdecimal() and path.name[0] != "0")
        return {path.name: path / MODEL_FILE for path in folders if (path / MODEL_FILE).is_file()}


class ModelStore:
    """Models by name and version."""

    def __init__(
        self, device: str, on_load: Callable[[str, bool], None] = lambda name, well: None, *, parallel: int = 1
    ) -> None:
        """`on_load` hears of each load, and whether it went well; `parallel` batches run at a time."""
        self._device = device
        self._parallel = parallel
        self._on_load = on_load
        self._entries: dict[str, _Entry] = {}
        self._folders: list[Path] = []
        self._loading = threading.Lock()

    def add(self, words: Iterable[str], repositories: Iterable[Path]) -> None:
        """Load `NAME=MODEL` or `MODEL` (as `find_model` understands it), and whole Triton repositories.

        Raises:
            SegkitError: a model is not found or cannot be loaded, or two have one name.
        """
        for word in words:
            name, path = _named(word)
            self._add(name, path)
        for folder in repositories:
            if not folder.is_dir():
                raise FileError(folder, "is no directory", "give one as `segkit export --triton` writes it")
            self._folders.append(folder)
            found = _repository(folder)
            if not found:
                raise FileError(folder, f"holds no NAME/VERSION/{MODEL_FILE}", "`segkit export RUN --triton DIR` does")
            for path in found:
                self._add(path.name, path)
        for entry in self._entries.values():
            if not entry.versions:
                raise SegkitError(f"{entry.source}: {entry.reason or 'holds no model'}")

    @property
    def names(self) -> list[str]:
        """All models, loaded or not, in the order they were given."""
        return list(self._entries)

    @property
    def ready(self) -> bool:
        """Whether every model that is wanted is loaded."""
        return all(entry.versions or not entry.wanted for entry in list(self._entries.values()))

    def get(self, name: str | None, version: str | None = None) -> Served:
        """A model by name (the first without one) and version (the highest without one).

        Raises:
            RequestError: 404 for what does not exist, 503 for what is not loaded.
        """
        entry = self._entries.get(name) if name else next(iter(self._entries.values()), None)
        if entry is None:
            raise RequestError(404, f"there is no such model; there is: {', '.join(self._entries) or 'none'}")
        versions = entry.versions
        if not versions:
            raise RequestError(503, f"the model {entry.name} is not loaded", {"Retry-After": "10"})
        if not version:
            return versions[max(versions, key=int)]
        if version not in versions:
            raise RequestError(404, f"there is no such version of {entry.name}; there is: {', '.join(versions)}")
        return versions[version]

    def versions(self, name: str) -> list[Served]:
        """The loaded versions of a model, lowest first. Raises RequestError 404."""
        if name not in self._entries:
            self.get(name)
        return [served for _, served in sorted(self._entries[name].versions.items(), key=lambda item: int(item[0]))]

    def index(self) -> list[dict[str, str]]:
        """What the protocol's repository index says of each version."""
        lines: list[dict[str, str]] = []
        for entry in list(self._entries.values()):
            ready = {"name": entry.name, "state": "READY", "reason": ""}
            lines.extend({**ready, "version": version} for version in sorted(entry.versions, key=int))
            if not entry.versions:
                reason = "unloaded" if not entry.wanted else entry.reason
                lines.append({"name": entry.name, "state": "UNAVAILABLE", "reason": reason})
        return lines

    def load(self, name: str) -> None:
        """Load a model again from its file. Blocks. Raises RequestError 404, or 400 where it cannot be loaded."""
        with self._loading:
            entry = self._entry(name)
            entry.wanted = True
            entry.refused.clear()
            self._refresh(entry, again=True)
            if entry.reason:
                raise RequestError(400, f"the model {name} cannot be loaded: it {entry.reason}")

    def unload(self, name: str) -> None:
        """Serve a model no more; requests that have it finish. Raises RequestError 404."""
        with self._loading:
            entry = self._entry(name)
            entry.wanted = False
            entry.versions = {}
        _log.info("model %s is unloaded", name)

    def look(self) -> None:
        """Load what is new or has changed on disk, and drop versions that are gone. Blocks."""
        with self._loading:
            for folder in self._folders:
                for path in _repository(folder):
                    if path.name not in self._entries:
                        self._entries[path.name] = _Entry(path.name, path)
            for entry in self._entries.values():
                if entry.wanted:
                    self._refresh(entry)

    def _add(self, name: str, path: Path) -> None:
        if name in self._entries:
            raise SegkitError(f"two models are named {name}; give one another name: NAME={path}")
        with self._loading:
            self._entries[name] = _Entry(name, path)
            self._refresh(self._entries[name])

    def _entry(self, name: str) -> _Entry:
        if name not in self._entries:
            self.get(name)
        return self._entries[name]

    def _refresh(self, entry: _Entry, *, again: bool = False) -> None:
        """Bring `entry.versions` to what is on disk; a file that cannot be loaded leaves the old one in place."""
        entry.reason = entry.reason if entry.refused else ""
        try:
            files = entry.files()
        except OSError as error:
            entry.reason = f"cannot be read ({error.strerror})"
            return
        versions = dict(entry.versions)
        if entry.source.is_dir():
            versions = {version: served for version, served in versions.items() if version in files}
        for version, path in files.items():
            stamp = _stamp(path)
            known = versions.get(version)
            if stamp is None or (known is not None and known.stamp == stamp and not again):
                continue
            if entry.refused.get(version) == stamp:
                continue
            served = self._load(entry, version, path, stamp)
            if served is not None:
                versions[version] = served
        entry.versions = versions  # in one step: a request sees the old models or the new ones
        if not files and not entry.versions:
            entry.reason = "is not there"

    def _load(self, entry: _Entry, version: str, path: Path, stamp: _Stamp) -> Served | None:
        try:
            model = load_warm(path, self._device, self._parallel)
        except SegkitError as error:
            entry.refused[version] = stamp
            entry.reason = sentence_of(error, "").strip()
            _log.error("model %s version %s is not loaded: %s", entry.name, version, error)
            self._on_load(entry.name, False)
            return None
        entry.refused.pop(version, None)
        _log.info("model %s version %s is loaded on %s from %s", entry.name, version, model.device, path)
        self._on_load(entry.name, True)
        return Served(entry.name, version, model, stamp)


def load_warm(path: Path, device: str, parallel: int = 1) -> Model:
    """Load a model and run one slice through it, so that the first request is not the slow one. Raises FileError."""
    model = Model.load(path, device, MANY_SLICES, resident=True, parallel=parallel)
    height, width = model.metadata.size
    for beside in (False, True):
        model.run([MASK], np.zeros((1, height, width, len(model.metadata.channels)), np.uint8), beside=beside)
    return model


def _named(word: str) -> tuple[str, Path]:
    name, equals, model = word.partition("=")
    path = find_model(model if equals else word)
    if not equals:
        name = path.parent.name if path.name == MODEL_FILE else path.stem
        name = name or path.resolve().parent.name
    if not _NAME.fullmatch(name):
        raise SegkitError(f"{word}: {name!r} is no name for a model; use letters, digits, - _ and .: NAME={path}")
    return name, path


def _repository(folder: Path) -> list[Path]:
    """The models of a Triton repository: folders that have numbered folders with a model."""
    found = (path for path in folder.glob(f"*/*/{MODEL_FILE}") if path.parent.name.isdecimal())
    return sorted({path.parent.parent for path in found if _NAME.fullmatch(path.parent.parent.name)})


def _stamp(path: Path) -> _Stamp | None:
    """What changes when a file is replaced or written to; None while it cannot be seen."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
