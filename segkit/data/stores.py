"""Three ways to the same slices: decoded from files at each access, gathered from a memory map, or on the device."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from segkit.data.cases import CaseSet
from segkit.data.packed import RECORDS, open_cache, open_records
from segkit.data.read import read_slice
from segkit.data.survey import Frame, Survey, all_refs


@dataclass(frozen=True)
class RecordShape:
    """A record is a slice's image bytes [H, W, C], then its mask bytes [H, W]."""

    height: int
    width: int
    channels: int

    @property
    def size(self) -> int:
        """Bytes of a record."""
        return self.height * self.width * (self.channels + 1)

    def split(self, records: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Views of uint8 [B, size] as images [B, H, W, C] and masks [B, H, W], without a copy."""
        count, area = len(records), self.height * self.width
        images = records[:, : area * self.channels].view(count, self.height, self.width, self.channels)
        return images, records[:, area * self.channels :].view(count, self.height, self.width)


class Store(Protocol):
    """Gathers records by row, in the order of `survey.all_refs`."""

    shape: RecordShape

    def gather(self, rows: np.ndarray) -> torch.Tensor:
        """uint8 [len(rows), shape.size]; on the host, or on the device for a resident store."""
        ...

    def evictable_files(self) -> list[Path]:
        """The files that `gather` reads, with no page of them mapped: what may be dropped from the page cache."""
        ...


class FilesStore:
    """Decodes at each access: what the worker-count experiments measure."""

    def __init__(self, case_set: CaseSet, frame: Frame) -> None:
        self.case_set, self.frame = case_set, frame
        self.refs = all_refs(case_set)
        self.shape = RecordShape(*frame.size, len(case_set.channels))

    def gather(self, rows: np.ndarray) -> torch.Tensor:
        """Decode the rows' slices and masks."""
        out = np.empty((len(rows), self.shape.size), np.uint8)
        split = self.shape.height * self.shape.width * self.shape.channels
        for record, row in zip(out, rows, strict=True):
            image, mask = self.frame.apply(*read_slice(self.case_set, self.refs[row]))
            record[:split], record[split:] = image.ravel(), mask.ravel()
        return torch.from_numpy(out)

    def evictable_files(self) -> list[Path]:
        """Images and masks, each file once."""
        return list(dict.fromkeys(path for ref in self.refs for path in (*ref.images, ref.mask)))


class PackedStore:
    """Gathers from the packed cache; the buffer is new for each call, so batches may outlive the next one."""

    def __init__(self, entry: Path, count: int, shape: RecordShape) -> None:
        self.entry, self.count, self.shape = entry, count, shape
        self.records = open_records(entry, count, shape.size)

    def __reduce__(self) -> tuple[type[PackedStore], tuple[Path, int, RecordShape]]:
        return PackedStore, (self.entry, self.count, self.shape)  # a worker maps the file itself

    def gather(self, rows: np.ndarray) -> torch.Tensor:
        """Copy the rows' records out of the memory map."""
        out = torch.empty((len(rows), self.shape.size), dtype=torch.uint8)
        # mode="clip" writes straight into `out`; the default would go through a buffer. Rows are in range.
        np.take(self.records, rows, axis=0, out=out.numpy(), mode="clip")
        return out

    def evictable_files(self) -> list[Path]:
        """The record file."""
        mapped = self.records.base
        if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)
        return [self.entry / RECORDS]


class ResidentStore:
    """The whole set on the device."""

    def __init__(self, packed: PackedStore, device: torch.device) -> None:
        self.shape = packed.shape
        self.device = device
        self.records = _upload(packed.records, device)

    def gather(self, rows: np.ndarray) -> torch.Tensor:
        """Index on the device."""
        return self.records.index_select(0, torch.from_numpy(rows).to(self.device))

    def evictable_files(self) -> list[Path]:
        """None: all is in memory."""
        return []


def _upload(records: np.ndarray, device: torch.device, piece: int = 1024) -> torch.Tensor:
    """Copy piece by piece, so that the host never holds a second copy of the whole set."""
    out = torch.empty(records.shape, dtype=torch.uint8, device=device)
    for start in range(0, len(records), piece):
        out[start : start + piece] = torch.from_numpy(np.array(records[start : start + piece]))
    return out


def open_store(loader: str, case_set: CaseSet, frame: Frame, cache: Path, device: torch.device) -> tuple[Store, Survey]:
    """The store of a `--loader` name, and the dataset's survey. Raises FileError for unreadable slices."""
    survey, entry = open_cache(case_set, frame, cache, packed=loader != "files")
    if loader == "files":
        return FilesStore(case_set, frame), survey
    packed = PackedStore(entry, len(survey.pixels), RecordShape(*frame.size, len(case_set.channels)))
    return (packed if loader == "packed" else ResidentStore(packed, device)), survey


class BatchLoader:
    """Gathers the batches of an epoch, in this process or in worker processes that live as long as the loader."""

    def __init__(self, store: Store, *, workers: int, prefetch: int, pin: bool) -> None:
        self.store, self.pin = store, pin
        self._order: list[np.ndarray] = []
        self._pool: torch.utils.data.DataLoader[torch.Tensor] | None = None
        if workers > 0:
            self._pool = torch.utils.data.DataLoader(
                _Gathered(store),
                batch_size=None,  # an item is a whole batch: the sampler yields its rows
                sampler=_Order(self._order),
                num_workers=workers,
                prefetch_factor=prefetch,
                pin_memory=pin,
                persistent_workers=True,
            )

    def iterate(self, batches: Sequence[np.ndarray]) -> Iterator[torch.Tensor]:
        """Records of each batch, uint8 [B, size], in order."""
        if self._pool is None:
            for rows in batches:
                records = self.store.gather(rows)
                yield records.pin_memory() if self.pin and not records.is_cuda else records
            return
        self._order[:] = batches
        yield from self._pool


class _Order(torch.utils.data.Sampler[np.ndarray]):
    """The batches of the epoch at hand; the list is shared with the loader, which changes it between epochs."""

    def __init__(self, batches: list[np.ndarray]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class _Gathered(torch.utils.data.Dataset[torch.Tensor]):
    """A store as a dataset whose index is an array of rows."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def __getitem__(self, rows: np.ndarray) -> torch.Tensor:
        return self.store.gather(rows)
