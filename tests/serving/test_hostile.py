"""Hostile uploads by the hundred: the generator of the benchmark, against a real server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("aiohttp")
from benchmarks.serving_hostile import Outcome, read_files, storm
from benchmarks.serving_load import Target
from tests.conftest import SHARED
from tests.serving.conftest import Server, decoded, encoded, memory_of, picture, serving, truth
from tests.serving.test_limits import eventually


def attack(server: Server, count: int, files: list[bytes], seed: int) -> Outcome:
    target = Target("segkit", f"{server.url}segment", server.process.pid)
    return asyncio.run(storm(target, "three", count, files, seed))


def check(server: Server, outcome: Outcome) -> None:
    assert not outcome.worst, outcome.worst
    assert not outcome.hung
    assert not [status for status in outcome.statuses if status >= 500 and status != 503]
    assert eventually(lambda: server.metric("segkit_requests_in_work") == 0)
    assert eventually(lambda: server.metric("segkit_scan_values") == 0)
    assert server.metric("segkit_body_bytes") == 0
    np.testing.assert_array_equal(decoded(server.post(encoded(picture(7))).content), truth(picture(7)))
    assert "Traceback" not in server.errors()


def test_broken_files_get_a_status_below_500(server: Server, shared: Path) -> None:
    files = read_files(shared / "hostile")
    check(server, attack(server, len(files), files, 0))


@pytest.mark.slow
def test_hundreds_of_attacks_leave_nothing_behind(tmp_path: Path, models: Path) -> None:
    files = read_files(SHARED / "hostile") if SHARED.is_dir() else []
    with serving(tmp_path, "--model", models / "three.onnx", "--grace-s", 2) as running:
        memory = [0]
        # Readers are imported and buffers kept as attacks first need them; what leaks grows in every round.
        for seed in range(6):
            check(running, attack(running, 200, files, seed))
            assert eventually(lambda: running.metric("segkit_requests_in_work") == 0)
            memory.append(memory_of(running.process.pid))
            if memory[-1] < memory[-2] + 24 * 2**20:
                break
        else:
            pytest.fail(f"memory grows on and on: {memory}")
        assert running.stop() in (0, -15)
