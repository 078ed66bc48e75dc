"""The findings as a page for a terminal, and as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from segkit import __version__
from segkit.doctor.finding import Finding, Severity, exit_code, worst

WIDTH = 100
_TITLES = {
    "host": "here",
    "gpu": "GPU",
    "torch": "PyTorch",
    "onnxruntime": "ONNX Runtime",
    "packages": "packages",
    "cpu": "CPU",
    "memory": "memory",
    "place": "places",
    "network": "network",
    "slurm": "SLURM",
}
_VERDICTS = {
    Severity.OK: "All is well.",
    Severity.NOTE: "All that is here works.",
    Severity.WARNING: "Works, but see the warnings.",
    Severity.FAILURE: "Something does not work: see the failures.",
}


def to_text(findings: Sequence[Finding]) -> str:
    """One page: what is well takes a line, the rest what it means and what to do."""
    lines: list[str] = []
    subject = ""
    for finding in findings:
        here = finding.check.partition(".")[0]
        if here != subject:
            lines.append(_TITLES.get(here, here))
            subject = here
        lines += _lines(finding)
    return "\n".join([*lines, "", verdict(findings)]) + "\n"


def verdict(findings: Sequence[Finding]) -> str:
    """The last line: the worst that was found, and how much of each."""
    counts = {s: sum(f.severity is s for f in findings) for s in reversed(Severity)}
    named = ", ".join(f"{n} {s.name.lower()}{'s' * (n > 1 and s is not Severity.OK)}" for s, n in counts.items() if n)
    return f"{_VERDICTS[worst(findings)]} ({named})"


def to_plain(findings: Sequence[Finding]) -> dict[str, Any]:
    """For programs."""
    return {
        "segkit": __version__,
        "severity": worst(findings).name.lower(),
        "exit_code": exit_code(findings),
        "findings": [
            {
                "check": finding.check,
                "severity": finding.severity.name.lower(),
                "fact": finding.fact,
                "meaning": finding.meaning,
                "remedy": finding.remedy,
                "values": finding.values,
            }
            for finding in findings
        ],
    }


def _lines(finding: Finding) -> list[str]:
    said = [_wrapped(finding.fact, f"  {finding.severity.name.lower():<8} ")]
    if finding.severity is not Severity.OK:
        said.append(_wrapped(finding.meaning, " " * 11))
        if finding.remedy:
            said.append(_wrapped(finding.remedy, " " * 11 + "> "))
    return said


def _wrapped(text: str, first: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent=first, subsequent_indent=" " * len(first), break_long_words=False)
