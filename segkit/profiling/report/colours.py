"""The colours of the page: one a part, the same everywhere, and distinct to colour-blind readers (Okabe and Ito).

A chart is drawn with the light colours; in the page each becomes a CSS variable with a dark counterpart.
"""

from __future__ import annotations

from segkit.profiling.summary import PARTS

# name -> (light, dark). The light ones are also the keys by which a drawing's colours are found, so all differ.
COLOURS: dict[str, tuple[str, str]] = {
    "compute": ("#0072b2", "#4aa3e0"),
    "optim": ("#56b4e9", "#a5d8f7"),
    "starved": ("#d55e00", "#f5813f"),
    "copy": ("#e69f00", "#f7c14d"),
    "sync": ("#b0578d", "#dd92c0"),
    "host": ("#7f868e", "#98a0a9"),
    "validate": ("#009e73", "#35c79c"),
    "checkpoint": ("#a69200", "#d9c74a"),
    "other": ("#b9bec4", "#69717a"),
    "first": ("#3f4fa0", "#9aa8f0"),  # lines that are no part, told apart by their dashes too
    "second": ("#2a7f86", "#66c5cc"),
    "third": ("#7d2e4b", "#e08ba8"),
    "ink": ("#1c2126", "#e8eaed"),
    "muted": ("#5b636c", "#a4acb5"),
    "line": ("#d9dde2", "#3a4149"),
    "card": ("#fefefe", "#1b1f24"),
    "page": ("#f3f5f7", "#121518"),
}

# Parts in which the device has nothing to do, from the most telling.
STALLS = ("starved", "copy", "sync", "host")
# Parts that a training step consists of; the others lie between steps.
STEP_PARTS = ("compute", "optim", "starved", "copy", "sync", "host")
# Parts drawn hatched, so that waiting shows without colour too: the path of the pattern, in a square of 5 units.
HATCHED = {"starved": "M-1 1L1 -1M0 5L5 0M4 6L6 4", "copy": "M2.5 2.5h.01", "sync": "M4 -1L6 1M0 0L5 5M-1 4L1 6"}

# What stands beside or under a segment, where a part's full name has no room.
SHORT = {
    "compute": "compute",
    "optim": "optimiser",
    "starved": "loader",
    "copy": "copy",
    "sync": "ranks",
    "host": "host",
    "validate": "validation",
    "checkpoint": "checkpoint",
    "other": "other",
}


def light(name: str) -> str:
    """The colour to draw with; a part that is not known is drawn like "other"."""
    return COLOURS.get(name, COLOURS["other"])[0]


def label(part: str) -> str:
    """The part's name for a reader."""
    return PARTS[part][0] if part in PARTS else part


def ordered(parts: dict[str, float]) -> list[tuple[str, float]]:
    """Parts with their values in the order in which every report has them."""
    names = [*PARTS, *(name for name in parts if name not in PARTS)]
    return [(name, parts[name]) for name in names if parts.get(name)]


def css_variables() -> str:
    """The style sheet's variables, light, dark and for paper (which is white whatever the screen is)."""
    light_rules = "".join(f"--{name}:{pair[0]};" for name, pair in COLOURS.items())
    dark_rules = "".join(f"--{name}:{pair[1]};" for name, pair in COLOURS.items())
    return f":root{{{light_rules}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{dark_rules}}}}}\n"
