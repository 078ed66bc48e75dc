"""The errors a user can cause. Each is one line: what, why, remedy; the command line exits with 2.

Anything else that is raised is a bug and keeps its traceback.
"""

from __future__ import annotations

from pathlib import Path


class SegkitError(Exception):
    """A mistake in the input, the flags or the surroundings, told in one line."""

    exit_code = 2


class ConfigError(SegkitError):
    """A configuration value that is not allowed, named with its key."""

    def __init__(self, key: str, value: object, allowed: str) -> None:
        super().__init__(f"{key} = {value!r}: allowed is {allowed}")


class FileError(SegkitError):
    """A file that cannot be used: the file, the reason, the remedy."""

    def __init__(self, path: Path | str, reason: str, remedy: str = "") -> None:
        self.path = Path(path)
        self.reason = reason
        self.remedy = remedy
        super().__init__(f"{path}: {reason}" + (f"; {remedy}" if remedy else ""))


class Interrupted(SegkitError):  # noqa: N818 - not an error: the run was asked to stop, and saved
    """A run that was asked to stop, saved its state and can be resumed (EX_TEMPFAIL)."""

    exit_code = 75


class ParityError(SegkitError):
    """An exported model that does not decide as the trained net does."""
