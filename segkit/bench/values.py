"""Values of settings as typed: "1,2,4", "on,off", "unet,fcn"."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from segkit.config import Value
from segkit.errors import ConfigError
from segkit.training.config import SECTIONS, section_of

RESERVED = ("export", "tensorboard")  # what a cell of a study never does
_SWITCH = {"on": True, "true": True, "yes": True, "off": False, "false": False, "no": False}


def checked_key(key: str) -> str:
    """`key`, if it is a setting that a study may vary. Raises ConfigError."""
    known = [name for kind in SECTIONS.values() for name in kind.__dataclass_fields__ if name not in RESERVED]
    if key not in known:
        raise ConfigError("setting", key, "a flag of `segkit train`: " + ", ".join(known))
    return key


def parse(key: str, text: str) -> Value:
    """One value in the setting's own type. Raises ConfigError."""
    field = SECTIONS[section_of(checked_key(key))].__dataclass_fields__[key]
    words = field.metadata.get("words") or {}
    if text in words:
        return int(words[text])
    kind = cast("Callable[[str], Value]", type(field.default))
    try:
        return _SWITCH[text.lower()] if isinstance(field.default, bool) else kind(text)
    except (ValueError, KeyError) as error:
        allowed = (
            "on or off"
            if isinstance(field.default, bool)
            else f"values of type {type(field.default).__name__}, with commas between them"
        )
        raise ConfigError(key, text, allowed) from error


def parse_all(key: str, text: str) -> Value | list[Value]:
    """One value, or a list of those with commas between them. Raises ConfigError."""
    from segkit.bench.study import expanded

    values = [one for word in text.split(",") for one in expanded(key, parse(key, word.strip()))]
    return values[0] if len(values) == 1 else values


def shown(value: object) -> str:
    """A value for a reader."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else f"{value}"
