"""`segkit doctor`."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="The findings as JSON, for programs.")] = False,
) -> None:
    """Say whether this machine, container or job can train and infer, and what to change where it cannot.

    The exit code is 0 if all is well, 1 with a warning, 2 with a failure; notes do not count.
    """
    from segkit.doctor.examine import examine
    from segkit.doctor.finding import exit_code
    from segkit.doctor.page import to_plain, to_text

    findings = examine()
    print(json.dumps(to_plain(findings), indent=2) if as_json else to_text(findings), end="\n" if as_json else "")
    raise typer.Exit(exit_code(findings))
