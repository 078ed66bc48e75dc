"""What the doctor finds: one fact, how bad it is, what it means, what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any


class Severity(IntEnum):
    """How bad a finding is."""

    OK = 0
    NOTE = 1  # something is absent or special here; what is there works
    WARNING = 2  # works, but not as the user will want
    FAILURE = 3  # does not work


@dataclass(frozen=True)
class Finding:
    """One line of the page."""

    check: str  # a stable name for programs, e.g. "onnxruntime.cuda"
    severity: Severity
    fact: str
    meaning: str
    remedy: str = ""  # empty: nothing to do
    values: dict[str, Any] = field(default_factory=dict)  # the fact for programs


def ok(check: str, fact: str, meaning: str, remedy: str = "", /, **values: Any) -> Finding:
    """All is as it should be."""
    return Finding(check, Severity.OK, fact, meaning, remedy, values)


def note(check: str, fact: str, meaning: str, remedy: str = "", /, **values: Any) -> Finding:
    """Good to know."""
    return Finding(check, Severity.NOTE, fact, meaning, remedy, values)


def warning(check: str, fact: str, meaning: str, remedy: str, /, **values: Any) -> Finding:
    """Works, but badly."""
    return Finding(check, Severity.WARNING, fact, meaning, remedy, values)


def failure(check: str, fact: str, meaning: str, remedy: str, /, **values: Any) -> Finding:
    """Does not work."""
    return Finding(check, Severity.FAILURE, fact, meaning, remedy, values)


def worst(findings: Sequence[Finding]) -> Severity:
    """The highest severity; OK where nothing was found."""
    return max((finding.severity for finding in findings), default=Severity.OK)


def exit_code(findings: Sequence[Finding]) -> int:
    """0: ok or notes; 1: a warning; 2: a failure (as monitoring plug-ins have it: OK, WARNING, CRITICAL)."""
    return max(0, int(worst(findings)) - int(Severity.NOTE))
