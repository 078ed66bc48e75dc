"""A DICOM study that was sent: which of its series the model gets, and how large they are, by headers alone."""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from segkit.errors import FileError, SegkitError
from segkit.imaging.sniff import head_of, looks_like_dicom
from segkit.serving.archive import is_zip
from segkit.serving.claims import Claims
from segkit.serving.config import Limits
from segkit.serving.errors import RequestError

if TYPE_CHECKING:
    from segkit.imaging.dicom.stacks import Stack, Study
    from segkit.imaging.scan import Scan

_SERIES = re.compile(r"[0-9]{1,10}|[0-9]+(\.[0-9]+)+")  # a number or a UID: never a path
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class SentStudy:
    """A study and what the model wants of it."""

    study: Study
    roles: tuple[str, ...]
    picks: Mapping[str, str]

    def read(self) -> Scan:
        """The chosen series as one scan. Raises SegkitError."""
        from segkit.imaging.dicom.volume import read_study

        try:
            scan, _ = read_study(self.study, self.picks, self.roles)
        except FileError as error:
            # The path is the name of a series, except where a file of our own has gone.
            raise error if error.path.is_absolute() else SegkitError(str(error)) from error
        return scan


def check_picks(picks: Mapping[str, str]) -> None:
    """Raises RequestError 400 for what names no series; so no path from a client is ever looked up."""
    for role, pick in picks.items():
        if not _SERIES.fullmatch(pick):
            raise RequestError(400, f"{role} in the query is neither the number nor the UID of a series")


def holds_dicom(folder: Path) -> bool:
    """Whether one of the files in `folder` is DICOM. If so, archives beside it are deleted: they are not opened."""
    heads = {path: head_of(path) for path in folder.iterdir()}
    if not any(looks_like_dicom(head, path.name) for path, head in heads.items()):
        return False
    for path, head in heads.items():
        if is_zip(path) or head.startswith(_GZIP):
            path.unlink()
    return True


def open_study(
    paths: Sequence[Path], channels: Sequence[str], picks: Mapping[str, str], limits: Limits
) -> tuple[SentStudy, Claims]:
    """The study in files and folders, the series for a model with these channels, and their size.

    `picks` names series by number, UID or (the server's own) folder.

    Raises:
        RequestError: 413 too large, 422 several studies, or no series that could be meant.
        FileError: no image in it.
    """
    _prepare()
    from segkit.imaging.dicom.choose import choose, roles_of
    from segkit.imaging.dicom.volume import open_studies

    studies, _ = open_studies(paths)
    if len(studies) > 1:
        raise RequestError(422, f"the scan holds {len(studies)} studies; send one of them")
    try:
        roles = roles_of(channels)
        _check_numbers(studies[0], picks)
        chosen = choose(studies[0], picks, roles).roles
    except SegkitError as error:
        raise RequestError(422, _in_a_query(str(error))) from error
    return SentStudy(studies[0], roles, picks), _claims([chosen[role] for role in roles if role in chosen], limits)


def _check_numbers(study: Study, picks: Mapping[str, str]) -> None:
    known = {str(stack.series_number) for stack in study.stacks} | {stack.series_uid for stack in study.stacks}
    for role, pick in picks.items():
        if _SERIES.fullmatch(pick) and pick not in known:
            numbers = ", ".join(sorted({str(stack.series_number) for stack in study.stacks}))
            raise RequestError(422, f"the study has no series {pick} for {role}; there are the numbers {numbers}")


def _claims(stacks: Sequence[Stack], limits: Limits) -> Claims:
    """The size of all channels on the grid of the largest one."""
    sizes = []
    for stack in stacks:
        rows, columns = stack.first.shape
        sizes.append(Claims("dicom", len(stack.frames), rows, columns))
    largest = max(sizes, key=lambda claims: claims.values)
    claims = Claims("dicom", largest.slices, largest.height, largest.width, len(stacks))
    claims.check(limits)
    return claims


def _in_a_query(text: str) -> str:
    """A message of the command line, as one to whom flags are parameters of the query wants it."""
    text = re.sub(r"--(\w+) NUMBER \(.*?\)", r"?\1=NUMBER", text)
    return re.sub(r"--(\w+) (\S+):", r"?\1=\2:", text)


@functools.cache
def _prepare() -> None:
    """Keep what pydicom warns of, which holds values of the file, out of the log, in all threads and for good.

    Its own readers do so for one thread at a time.
    """
    warnings.filterwarnings("ignore", module="pydicom|highdicom")
    from segkit.imaging.dicom.reading import require_packages

    require_packages()
    from pydicom import config

    config.settings.reading_validation_mode = config.IGNORE
