"""HTML by construction: every string is escaped unless it was made here."""

from __future__ import annotations

import html

_VOID = frozenset({"meta", "br", "hr", "img", "input", "link"})


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def text(value: object) -> Markup:
    """`value` escaped, unless it is Markup."""
    return value if isinstance(value, Markup) else Markup(html.escape(str(value), quote=True))


def el(name: str, /, *children: object, **attributes: object) -> Markup:
    """An element. `class_` gives `class`, an underscore a hyphen; attributes that are None are left out.

    Children that are None are left out; lists are laid flat.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value), quote=True)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{given}>")
    return Markup(f"<{name}{given}>{joined(*children)}</{name}>")


def joined(*children: object) -> Markup:
    """The children one after another."""
    flat: list[str] = []
    for child in children:
        if isinstance(child, list | tuple):
            flat.append(joined(*child))
        elif child is not None:
            flat.append(text(child))
    return Markup("".join(flat))
