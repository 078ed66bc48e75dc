from __future__ import annotations

import os
from pathlib import Path

import pytest

from segkit.resources import cache_folder, granted_cpus


def test_slurm_s_grant_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    assert granted_cpus() == 3


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs CPU affinity")
def test_affinity_counts_not_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert granted_cpus() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_cache_is_where_it_was_told_to_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SEGKIT_CACHE", raising=False)
    assert cache_folder(tmp_path).parent == tmp_path
    monkeypatch.setenv("SEGKIT_CACHE", str(tmp_path / "elsewhere"))
    assert cache_folder(tmp_path) == tmp_path / "elsewhere"
