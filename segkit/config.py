"""Checked configuration: dataclasses whose fields carry their help, their bounds and the only copy of their default.

The command line, the TOML file and `config.toml` of a run are all read from, or written from, these fields.
"""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from segkit.errors import ConfigError, FileError

Value = bool | int | float | str
C = TypeVar("C", bound="Checked")


def option(
    default: Value,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: Sequence[str] = (),
    words: Mapping[str, int] | None = None,
) -> Any:
    """A configuration field. `low` and `high` are inclusive; `words` are names that stand for numbers."""
    metadata = {"help": help, "low": low, "high": high, "choices": tuple(choices), "words": dict(words or {})}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Checked:
    """Base of every component's configuration: a bad value is refused where the object is made."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _checked(field, getattr(self, field.name)))


def _checked(field: dataclasses.Field[Any], value: Any) -> Value:
    kind = type(field.default)
    words = field.metadata.get("words") or {}
    if words and isinstance(value, str):
        value = words.get(value, int(value) if re.fullmatch("-?[0-9]+", value) else value)
    if words and value in words.values():
        return int(value)
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind or not isinstance(value, Value):
        named = "".join(f", or {word}" for word in words)
        raise ConfigError(field.name, value, f"a value of type {kind.__name__}{named}")
    low, high, choices = (field.metadata.get(key) for key in ("low", "high", "choices"))
    if choices and value not in choices:
        raise ConfigError(field.name, value, "one of " + ", ".join(choices))
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        raise ConfigError(field.name, value, _interval(low, high))
    return value


def _interval(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return f"at least {low}" if high is None else f"at most {high}"
    return f"{low} to {high}"


def from_mapping(kind: type[C], values: Mapping[str, Any], section: str) -> C:
    """Make a component's configuration from parsed values. Raises ConfigError for a key it does not have."""
    names = [field.name for field in dataclasses.fields(kind)]
    for key in values:
        if key not in names:
            raise ConfigError(f"{section}.{key}", values[key], "one of the keys " + ", ".join(names))
    return kind(**values)


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file. Raises FileError if it is absent or malformed."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(path, f"cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FileError(path, f"is not TOML ({error})") from error


def to_toml(sections: Mapping[str, Checked]) -> str:
    """Sections of flat values as TOML; JSON's strings, numbers and booleans are valid TOML."""
    blocks = []
    for name, component in sections.items():
        lines = [f"{key} = {json.dumps(value)}" for key, value in dataclasses.asdict(component).items()]
        blocks.append("\n".join([f"[{name}]", *lines]))
    return "\n\n".join(blocks) + "\n"


def flag(key: str, value: Value) -> str:
    """A setting as one word of the command line: --key=value, --key or --no-key."""
    name = key.replace("_", "-")
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    return f"--{name}={value}"
