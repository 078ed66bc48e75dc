"""Figures in sentences."""

from __future__ import annotations


def percent(share: float, digits: int = 0) -> str:
    """A share as "13 %", with a space as in print."""
    return f"{100 * share:.{digits}f} %"
