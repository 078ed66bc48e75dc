"""A request's scan on its way into a private folder, from which the readers take it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from starlette.requests import Request

from segkit.errors import SegkitError
from segkit.imaging.naming import slice_files
from segkit.imaging.sniff import kind_of
from segkit.serving.archive import is_zip, unpack
from segkit.serving.body import chunks
from segkit.serving.budget import Share
from segkit.serving.claims import Claims, claims_of
from segkit.serving.config import Limits
from segkit.serving.errors import RequestError, sentence_of
from segkit.serving.multipart import FormReader

SEQUENCES = ("pre", "flair", "post")  # form fields of one channel each
_WHOLE = ("scan", "file")  # form fields of a whole scan
_SCAN = "scan"


@dataclass(frozen=True)
class Upload:
    """A scan as it was sent.

    Attributes:
        source: what `read_scan` takes: a file, a folder, or one file a channel.
        claims: of the whole scan; None where only its reader can tell.
        names: of the files of a zip, in the order of the slices.
    """

    source: Path | list[Path]
    claims: Claims | None
    names: tuple[str, ...] = ()

    @property
    def format(self) -> str:
        """For the log and the metrics."""
        return "zip" if self.names else self.claims.kind if self.claims else "other"


async def receive(request: Request, folder: Path, limits: Limits, share: Share) -> int:
    """Write the body, or the files of a form, to `folder`; the bytes that came.

    Raises:
        RequestError: as `body.chunks`; 400 nothing sent, or a form that is none of ours.
    """
    pieces = chunks(request, limits, share)
    kind = request.headers.get("content-type", "")
    if kind.lower().startswith("multipart/form-data"):
        form = _Form(folder)
        await FormReader(kind, form.open).read(pieces)
        form.check()
    else:
        with (folder / _SCAN).open("xb") as file:
            await _copy(pieces, file)
    if not share.amount:
        raise RequestError(400, "the request has no scan in its body")
    return share.amount


async def _copy(pieces: AsyncIterator[bytes], file: BinaryIO) -> None:
    async for piece in pieces:
        file.write(piece)


class _Form:
    """Gives each field its file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fields: list[str] = []

    def open(self, field: str) -> BinaryIO:
        if field not in (*_WHOLE, *SEQUENCES):
            raise RequestError(400, "a field of the form is none of scan, pre, flair and post")
        name = _SCAN if field in _WHOLE else field
        if name in self._fields:
            raise RequestError(400, f"the form has two files named {name}")
        self._fields.append(name)
        return (self._folder / name).open("xb")

    def check(self) -> None:
        if _SCAN in self._fields and len(self._fields) > 1:
            raise RequestError(400, "the form has a whole scan and single sequences; send one or the other")
        if _SCAN not in self._fields and "flair" not in self._fields:
            raise RequestError(400, "the form has no file named scan, nor one named flair")


def zip_in(folder: Path) -> Path | None:
    """The zip that was sent, if it was one."""
    scan = folder / _SCAN
    return scan if scan.exists() and is_zip(scan) else None


def inspect(folder: Path, limits: Limits) -> Upload:
    """What was sent, by content and headers; nothing is decoded. Blocks.

    Raises:
        RequestError: 415 no scan, 413 too large, 400 damaged.
    """
    try:
        if not (folder / _SCAN).exists():
            return _sequences(folder, limits)
        if zip_in(folder):
            return _zip(folder, limits)
        return _file(folder / _SCAN, limits)
    except SegkitError as error:
        raise RequestError(415, sentence_of(error, "the scan")) from error


def _file(path: Path, limits: Limits) -> Upload:
    if kind_of(path) == "nifti" and path.suffix != ".nii":
        path = path.rename(path.with_suffix(".nii"))  # the reader takes other names for halves of pairs
    return Upload(path, claims_of(path, limits))


def _sequences(folder: Path, limits: Limits) -> Upload:
    """One file a channel; FLAIR stands in for a missing one, as in `segkit segment`."""
    files: dict[str, Upload] = {}
    for name in SEQUENCES:
        if (folder / name).exists():
            files[name] = _file(folder / name, limits)
    uploads = [files.get(name, files["flair"]) for name in SEQUENCES]
    first = uploads[0].claims
    claims = replace(first, channels=len(uploads)) if first else None
    if claims is not None:
        claims.check(limits)
    return Upload([upload.source for upload in uploads if isinstance(upload.source, Path)], claims)


def _zip(folder: Path, limits: Limits) -> Upload:
    unpacked = folder / "zip"
    unpacked.mkdir()
    names = unpack(folder / _SCAN, unpacked, limits)
    (folder / _SCAN).unlink()
    if len(names) == 1:
        return _file(next(unpacked.iterdir()), limits)
    slices = slice_files(unpacked)
    first = claims_of(slices[0], limits) if slices else None
    claims = replace(first, kind="folder", slices=len(slices)) if first else None
    if claims is not None:
        claims.check(limits)
    return Upload(unpacked, claims, tuple(names))
