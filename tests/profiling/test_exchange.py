"""Texts between real ranks, some of which never come."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from segkit.profiling.records import StepRecord, read_lines
from tests.conftest import clean_environment

BEGIN = """
import json, os, sys
import torch.distributed as dist
rank, out = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=sys.argv[3], rank=rank, world_size=2)
"""

GATHER = """
from segkit.profiling.exchange import Exchange
exchange = Exchange(rank, 2, 30.0)
told = [exchange.gather("a" * 1000 + str(rank)), exchange.gather("ü" + str(rank))]
"""

SILENT = """
from segkit.profiling.exchange import Exchange
told = []
if rank == 0:
    exchange = Exchange(rank, 2, 0.3)
    told = [exchange.gather("anybody?"), exchange.gather("nobody?")]
"""

ONE_PROFILES = """
import torch
from segkit.profiling import Profiler
def loop(batches):
    for batch in batches:
        total = torch.ones(1)
        dist.all_reduce(total)
        sums.append(total.item())
sums = []
if rank == 1:
    with Profiler(out + "/profile", interval=0, patience=0.3) as p:
        loop(p.watch([[1, 2]] * 5))
else:
    loop([[1, 2]] * 5)
told = sums
"""

END = """
dist.barrier()
json.dump(told, open(os.path.join(out, f"{rank}.json"), "w"))
"""

Job = Callable[[str], list[list[object]]]


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Run a text on two ranks; what each told."""

    def run(text: str) -> list[list[object]]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        words = [sys.executable, "-c", BEGIN + text + END]
        ranks = [
            subprocess.Popen([*words, str(rank), str(tmp_path), f"tcp://127.0.0.1:{port}"], env=clean_environment())
            for rank in range(2)
        ]
        assert [rank.wait(120) for rank in ranks] == [0, 0]
        return [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]

    return run


def test_ranks_hear_each_other(job: Job) -> None:
    expected = [["a" * 1000 + "0", "a" * 1000 + "1"], ["ü0", "ü1"]]
    assert job(GATHER) == [expected, expected]


def test_a_rank_that_does_not_come_is_not_waited_for(job: Job) -> None:
    assert job(SILENT) == [[["anybody?", None], ["nobody?", None]], []]


def test_one_rank_can_profile_alone_and_the_programs_collectives_go_on(job: Job, tmp_path: Path) -> None:
    assert job(ONE_PROFILES) == [[2.0] * 5, [2.0] * 5]
    steps = read_lines(tmp_path / "profile" / "steps-rank1.jsonl", StepRecord)
    assert [step.images for step in steps] == [2] * 5
    assert not (tmp_path / "profile" / "steps-rank0.jsonl").exists()
