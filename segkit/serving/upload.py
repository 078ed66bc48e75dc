"""A request's scan on its way into a private folder, from which the readers take it."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from starlette.requests import Request

from segkit.errors import SegkitError
from segkit.imaging.naming import slice_files
from segkit.imaging.sniff import head_of, kind_of
from segkit.serving.archive import is_zip, unpack, unpacked_bytes
from segkit.serving.body import chunks
from segkit.serving.budget import Share
from segkit.serving.claims import Claims, claims_of
from segkit.serving.config import Limits
from segkit.serving.errors import Busy, RequestError, sentence_of
from segkit.serving.multipart import FormReader
from segkit.serving.study import SentStudy, holds_dicom, open_study

SEQUENCES = ("pre", "flair", "post")  # form fields of one channel each
_WHOLE = ("scan", "file")  # form fields of a whole scan
_SCAN = "scan"
_GZIP = b"\x1f\x8b"
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Upload:
    """A scan as it was sent.

    Attributes:
        source: what `read_scan` takes: a file, a folder, or one file a channel; or a DICOM study.
        claims: of the whole scan; None where only its reader can tell.
        names: of the files of a zip, in the order of the slices.
    """

    source: Path | list[Path] | SentStudy
    claims: Claims | None
    names: tuple[str, ...] = ()

    @property
    def format(self) -> str:
        """For the log and the metrics."""
        return "zip" if self.names else self.claims.kind if self.claims else "other"

    def values(self, limits: Limits) -> int:
        """What it takes of the memory; without claims as much as any may."""
        return self.claims.values if self.claims else limits.voxels


async def receive(request: Request, folder: Path, limits: Limits, share: Share) -> int:
    """Write the body, or the files of a form, to `folder`; the bytes that came.

    Raises:
        RequestError: as `body.chunks`; 400 nothing sent, or a form that is none of ours.
        Busy: the disk is full.
    """
    pieces = chunks(request, limits, share)
    kind = request.headers.get("content-type", "")
    try:
        if kind.lower().startswith("multipart/form-data"):
            form = _Form(folder)
            await FormReader(kind, form.open).read(pieces)
            form.check()
        else:
            with (folder / _SCAN).open("xb") as file:
                await _copy(pieces, file)
    except OSError as error:
        if error.errno in _FULL:
            raise Busy("the server has no room for the body at the moment") from error
        raise
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


@dataclass(frozen=True)
class Inspector:
    """Finds out what was sent, by content and headers; no pixel is decoded.

    Attributes:
        channels: of the model, by which the series of a study are chosen.
        picks: series of a study by role, where the client names them.
        bodies: grows by what archives unpack to.
    """

    folder: Path
    limits: Limits
    bodies: Share
    channels: Sequence[str]
    picks: Mapping[str, str]

    def inspect(self) -> Upload:
        """Blocks.

        Raises:
            RequestError: 415 no scan, 413 too large, 400 damaged, 422 a study that does not fit.
            Busy: what an archive unpacks to does not fit beside the bodies of others.
        """
        try:
            upload = self._scan(self.folder / _SCAN) if (self.folder / _SCAN).exists() else self._sequences()
        except SegkitError as error:
            raise RequestError(415, sentence_of(error, "the scan")) from error
        if self.picks and not isinstance(upload.source, SentStudy):
            raise RequestError(400, "pre, flair and post in the query choose among the series of a DICOM study")
        return upload

    def _scan(self, path: Path) -> Upload:
        if not is_zip(path):
            return self._file(path)
        unpacked, names = self._unpack(path)
        if holds_dicom(unpacked):
            return self._study([unpacked], self.picks)
        if len(names) == 1:
            return self._file(next(unpacked.iterdir()))
        slices = slice_files(unpacked)
        first = claims_of(slices[0], self.limits) if slices else None
        claims = replace(first, kind="folder", slices=len(slices)) if first else None
        if claims is not None:
            claims.check(self.limits)
        return Upload(unpacked, claims, tuple(names))

    def _sequences(self) -> Upload:
        """One file a channel, FLAIR in place of a missing one, as in `segkit segment`; or series of DICOM."""
        sent = {name: self.folder / name for name in SEQUENCES if (self.folder / name).exists()}
        places = {name: self._unpack(path)[0] if is_zip(path) else path for name, path in sent.items()}
        if any(holds_dicom(path) if path.is_dir() else kind_of(path) == "dicom" for path in places.values()):
            return self._study(list(places.values()), {name: str(path) for name, path in places.items()})
        if any(path.is_dir() for path in places.values()):
            raise RequestError(415, "a zip among the sequences holds no DICOM; send the whole scan as one zip")
        files = {name: self._file(path) for name, path in places.items()}
        uploads = [files.get(name, files["flair"]) for name in SEQUENCES]
        first = uploads[0].claims
        claims = replace(first, channels=len(uploads)) if first else None
        if claims is not None:
            claims.check(self.limits)
        return Upload([upload.source for upload in uploads if isinstance(upload.source, Path)], claims)

    def _file(self, path: Path) -> Upload:
        kind = kind_of(path)
        if kind == "zip":
            raise RequestError(415, "the zip file holds another zip file; send that one")
        if kind == "dicom":
            return self._study([path], self.picks)
        if kind == "nifti" and path.suffix != ".nii":
            path = path.rename(path.with_suffix(".nii"))  # the reader takes other names for halves of pairs
        return Upload(path, claims_of(path, self.limits))

    def _study(self, paths: Sequence[Path], picks: Mapping[str, str]) -> Upload:
        for path in paths:
            if path.is_file() and head_of(path).startswith(_GZIP):
                raise RequestError(415, "the scan is a DICOM file inside gzip; unpack it, or send a zip")
        study, claims = open_study(paths, self.channels, picks, self.limits)
        return Upload(study, claims)

    def _unpack(self, path: Path) -> tuple[Path, list[str]]:
        """The folder with the files of a zip, and their names; the zip itself is deleted."""
        self.bodies.grow_to(self.bodies.amount + unpacked_bytes(path, self.limits))
        unpacked = path.with_name(f"{path.name}-files")
        unpacked.mkdir()
        names = unpack(path, unpacked, self.limits)
        path.unlink()
        return unpacked, names
