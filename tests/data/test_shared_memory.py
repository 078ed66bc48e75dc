"""Loader workers and /dev/shm: what is predicted to fit does, and what does not is not tried."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from segkit.data.shared_memory import Room, free_bytes
from tests.conftest import ROOT, clean_environment

MB = 1 << 20


def test_the_most_workers_that_fit() -> None:
    room = Room(batch=4 * MB, prefetch=2, free=64 * MB)
    assert room.needed(0) == 0
    assert room.most(3) == 3
    assert room.most(100) == 6  # (6 x 2 + 2) x 4 + 1 = 57 MB; one more needs 65
    assert Room(4 * MB, 2, 64 * MB, ranks=4).most(8) == 0
    assert Room(4 * MB, 2, 0).most(8) == 0


def test_a_folder_that_is_not_there_has_no_room(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "shm") == 0
    assert (free_bytes(tmp_path) or 0) > 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount")
@pytest.mark.slow
def test_a_training_with_too_little_takes_fewer_workers_and_says_so(phantom: Path, tmp_path: Path) -> None:
    """64 x 64 slices in batches of 32: half a MB each; 3 MB hold one worker's."""
    train = "train --data {} --model unet --width 4 --batch 32 --loader files --workers 3 --steps 3 --no-export"
    words = f"mount -t tmpfs -o size=3m tmpfs /dev/shm && exec {sys.executable} -m segkit {train.format(phantom)}"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", words],
        cwd=tmp_path,
        env={**clean_environment(), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if "unshare failed" in done.stderr or "mount:" in done.stderr:
        pytest.skip("may not mount here")
    assert done.returncode == 0, done.stderr
    (said,) = [line for line in done.stderr.splitlines() if "/dev/shm" in line]
    assert re.search(r"too little for 3 loader workers .* using [01];", said)
