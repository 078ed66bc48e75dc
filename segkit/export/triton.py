"""A Triton model repository: NAME/config.pbtxt, NAME/labels.txt and NAME/VERSION/model.onnx."""

from __future__ import annotations

import filecmp
import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from segkit.errors import ConfigError
from segkit.files import write_text
from segkit.inference.find import MODEL_FILE
from segkit.inference.model_config import LABELS, Enum, model_config
from segkit.model_metadata import ModelMetadata
from segkit.unwritable import unwritable

CONFIG = "config.pbtxt"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


def write_repository(model: Path, metadata: ModelMetadata, repository: Path, name: str) -> Path:
    """Add the exported `model` to `repository` as the next version of `name`, and give that version's folder.

    The version appears whole, so that a server that watches the repository never sees half of it. The same
    file is not added twice.

    Raises:
        ConfigError: a name that Triton does not take.
        FileError: the repository cannot be written to.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError("name", name, "letters, digits, - _ and .")
    folder = repository / name
    write_text(folder / LABELS, "".join(f"{label}\n" for label in metadata.classes))
    write_text(folder / CONFIG, to_pbtxt(model_config(name, metadata)))
    versions = sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())
    last = folder / str(versions[-1]) if versions else None
    if last and (last / MODEL_FILE).is_file() and filecmp.cmp(model, last / MODEL_FILE, shallow=False):
        return last
    target = folder / str(versions[-1] + 1 if versions else 1)
    try:
        with tempfile.TemporaryDirectory(dir=repository, prefix=".new-") as new:
            whole = Path(new) / "version"
            whole.mkdir()
            shutil.copyfile(model, whole / MODEL_FILE)
            whole.rename(target)
    except OSError as error:
        raise unwritable(target, error) from error
    return target


def to_pbtxt(fields: dict[str, Any], indent: str = "") -> str:
    """The fields of a message as protobuf text."""
    lines = []
    for key, value in fields.items():
        if isinstance(value, dict):
            lines.append(_message(key, value, indent))
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            lines.extend(_message(key, one, indent) for one in value)
        elif isinstance(value, list):
            lines.append(f"{indent}{key}: [{', '.join(map(_scalar, value))}]\n")
        else:
            lines.append(f"{indent}{key}: {_scalar(value)}\n")
    return "".join(lines)


def _message(key: str, fields: dict[str, Any], indent: str) -> str:
    return f"{indent}{key} {{\n{to_pbtxt(fields, indent + '  ')}{indent}}}\n"


def _scalar(value: object) -> str:
    return str(value) if isinstance(value, Enum) else json.dumps(value)
