"""segkit's command line with one fault planted in it: python -m benchmarks.planted_fault FAULT VERB ...

The faults are real waits in the real pipeline: `decode` (each slice takes longer to decode, by a sleep), `burn` (the
same by work on the CPU), `disk` (a reader throttled to a slow disk's rate for pages that are not in the page cache),
`copy`, `rank` (the loader of rank 1), `validation`, `none`. PLANTED_SECONDS scales them.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SECONDS = float(os.environ.get("PLANTED_SECONDS", "0.01"))  # a slice, a copy, or a validation batch
DISK_RATE = 2e6  # bytes a second


def main() -> None:
    """Plant, then run."""
    fault = sys.argv.pop(1)
    FAULTS[fault]()
    from segkit.cli.main import main as segkit

    segkit()


def before(owner: Any, name: str, action: Callable[..., None]) -> None:
    """Call `action` with the arguments of a function before it."""
    original = getattr(owner, name)

    def slowed(*arguments: Any, **named: Any) -> Any:
        action(*arguments, **named)
        return original(*arguments, **named)

    setattr(owner, name, slowed)


def plant_decode() -> None:
    from segkit.data.stores import FilesStore

    before(FilesStore, "gather", lambda store, rows: time.sleep(SECONDS * len(rows)))


def plant_burn() -> None:
    from segkit.data.stores import FilesStore

    def burn(store: Any, rows: Any) -> None:
        until = time.thread_time() + SECONDS * len(rows)
        while time.thread_time() < until:
            pass

    before(FilesStore, "gather", burn)


def plant_disk() -> None:
    from segkit.data.stores import FilesStore

    def fetch(store: Any, rows: Any) -> None:
        for row in rows:
            for file in (*store.refs[row].images, store.refs[row].mask):
                throttled_read(file)

    before(FilesStore, "gather", fetch)


def throttled_read(file: Path) -> None:
    """Read a file, and wait as long as a slow disk would take for it unless its first page is cached."""
    handle = os.open(file, os.O_RDONLY)
    try:
        os.preadv(handle, [bytearray(4096)], 0, os.RWF_NOWAIT)
    except BlockingIOError:
        os.pread(handle, 1 << 30, 0)
        time.sleep(0.002 + file.stat().st_size / DISK_RATE)
    finally:
        os.close(handle)


def plant_copy() -> None:
    from segkit.data.stores import RecordShape

    before(RecordShape, "split", lambda shape, records: time.sleep(SECONDS * len(records)))


def plant_rank() -> None:
    if os.environ.get("RANK") == "1":
        plant_decode()


def plant_validation() -> None:
    from segkit.training import trainer

    before(trainer, "validate", lambda learner, data, loader: time.sleep(SECONDS * 10 * len(data.rows("val"))))


FAULTS: dict[str, Callable[[], None]] = {
    "decode": plant_decode,
    "burn": plant_burn,
    "disk": plant_disk,
    "copy": plant_copy,
    "rank": plant_rank,
    "validation": plant_validation,
    "none": lambda: None,
}

if __name__ == "__main__":
    main()
