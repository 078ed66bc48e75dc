"""The slow rank among ranks whose waits are known, and among real processes that exchange gradients."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from segkit.profiling import Profiler
from segkit.profiling.analysis import summarise
from segkit.profiling.records import StepRecord
from segkit.profiling.stragglers import compare_ranks, find_straggler
from segkit.profiling.summary import RankSummary, RunSummary
from tests.profiling.made import rank_info, step

EXCHANGE = 0.002  # seconds that the all-reduce itself takes


def meet(arrivals: dict[int, list[float]], **parts: dict[int, float]) -> list[RankSummary]:
    """Ranks that meet at each step: one that arrives `arrivals[rank][k]` seconds after the step's beginning."""
    ranks: dict[int, list[StepRecord]] = {rank: [] for rank in arrivals}
    for k in range(len(arrivals[0])):
        last = max(one[k] for one in arrivals.values())
        for rank, one in arrivals.items():
            mine = {f"{part}_s": values.get(rank, 0.0) for part, values in parts.items()}
            own = {"compute_s": one[k] - sum(mine.get(p, 0.0) for p in ("wait_s", "copy_s", "host_s")), **mine}
            own["gap_s"] = own.get("wait_s", 0.0) + own.pop("host_s", 0.0)
            sync = last - one[k] + EXCHANGE
            ranks[rank].append(step(k + 1, seconds=last + EXCHANGE, sync_s=sync, **own))
    return compare_ranks({rank: (rank_info(rank, host=f"node{rank}"), steps) for rank, steps in ranks.items()})


def arrivals(slow: float, steps: int = 60, ranks: int = 4) -> dict[int, list[float]]:
    """Ranks that arrive after 100 ms +- 2, rank 2 after so much more."""
    random = np.random.default_rng(5)
    late = {2: slow}
    return {rank: list(0.1 + late.get(rank, 0.0) + random.normal(0, 0.002, steps)) for rank in range(ranks)}


def test_what_a_slow_rank_costs_the_others() -> None:
    summaries = meet({0: [0.1] * 20, 1: [0.1] * 20, 2: [0.13] * 20})
    assert [s.cost_others_s for s in summaries] == pytest.approx([0, 0, 0.03])
    assert [s.waited_for_others_s for s in summaries] == pytest.approx([0.03, 0.03, 0])
    assert [s.last_share for s in summaries] == [0, 0, 1]
    found = find_straggler(summaries)
    assert found is not None
    assert (found.rank, found.host, found.cause) == (2, "node2", "compute")
    assert found.cost_share == pytest.approx(0.03 / 0.132)
    assert found.sentence == (
        "Rank 2 on node2 holds the others back: it came last at 100 % of the steps and cost each of them "
        "30.0 ms a step (23 % of their time), because it computes slower (+30.0 ms a step against the median of the "
        "others)."
    )


@pytest.mark.parametrize(("part", "cause"), [("wait", "loader"), ("copy", "copy"), ("host", "host")])
def test_why_a_rank_is_slow(part: str, cause: str) -> None:
    found = find_straggler(meet(arrivals(0.03), **{part: {2: 0.03}}))
    assert found is not None
    assert (found.rank, found.cause) == (2, cause)


def test_chance_makes_no_straggler() -> None:
    assert find_straggler(meet(arrivals(0.0))) is None
    assert find_straggler(meet(arrivals(0.001))) is None  # 1 % of the others' time
    assert find_straggler(meet(arrivals(0.01))) is not None


def test_ranks_that_take_turns_in_being_last_make_none() -> None:
    turns = {rank: [0.2 if k % 4 == rank else 0.1 for k in range(60)] for rank in range(4)}
    assert find_straggler(meet(turns)) is None


def test_one_long_hiccup_makes_none() -> None:
    waits = {0: [0.1] * 60, 1: [0.1] * 59 + [3.0]}
    assert find_straggler(meet(waits)) is None


def test_only_steps_that_all_ranks_have_are_compared() -> None:
    slow = [step(k, sync_s=0.001) for k in range(1, 21)]
    fast = [step(k, sync_s=0.041) for k in range(5, 31)]
    summaries = compare_ranks({0: (None, slow), 1: (None, fast)})
    assert summaries[0].cost_others_s == pytest.approx(0.04)
    assert summaries[0].steps == 20


def test_without_an_exchange_there_is_nothing_to_compare() -> None:
    alone = compare_ranks({0: (rank_info(), [step(1, sync_s=0.1)])})
    unsynced = compare_ranks({rank: (rank_info(rank), [step(1)]) for rank in (0, 1)})
    apart = compare_ranks({rank: (None, [step(rank + 1, sync_s=0.1)]) for rank in (0, 1)})
    for summaries in (alone, unsynced, apart):
        assert all(s.cost_others_s is None for s in summaries)
        assert find_straggler(summaries) is None
    assert find_straggler([]) is None


# --- real ranks ----------------------------------------------------------------------------------

SLEEP, STEPS = 0.03, 30
PLACES = ("loader", "copy", "compute")


class Net(nn.Module):
    def __init__(self, pause: float) -> None:
        super().__init__()
        self.pause = pause
        self.layers = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(self.pause)
        return self.layers(x)


def train(folder: Path, rank: int, place: str) -> None:
    """A plain DDP loop, in which rank 1 sleeps 30 ms a step at some place."""
    pause = {place: SLEEP} if rank == 1 else {}

    def loader() -> Iterator[torch.Tensor]:
        for _ in range(STEPS):
            time.sleep(0.002 + pause.get("loader", 0.0))
            yield torch.ones(2, 4)

    net = nn.parallel.DistributedDataParallel(Net(0.002 + pause.get("compute", 0.0)))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    with Profiler(folder, quiet=True, interval=0.5) as p:
        p.attach(model=net, optimizer=optimizer)
        for batch in p.watch(loader()):
            with p.copying():
                time.sleep(pause.get("copy", 0.0))
            optimizer.zero_grad()
            net(batch).sum().backward()
            optimizer.step()


def run_rank(rank: int, port: int, folder: str) -> None:
    # As torch.multiprocessing starts ranks: no variable tells them apart.
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    for place in PLACES:
        train(Path(folder) / place, rank, place)
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunSummary]:
    """The summaries of 2-rank runs with a rank that is slowed at each of the places."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    kept = dict(os.environ)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_STEP_ID"):
        os.environ.pop(name, None)
    try:
        mp.spawn(run_rank, args=(port, str(folder)), nprocs=2)  # type: ignore[no-untyped-call]
    finally:
        os.environ.update(kept)
    return {place: summarise(folder / place) for place in PLACES}


@pytest.mark.parametrize("place", PLACES)
def test_a_slowed_rank_is_found_among_real_ranks(trained: dict[str, RunSummary], place: str) -> None:
    summary = trained[place]
    fast, slow = summary.ranks
    assert (fast.rank, slow.rank, fast.steps, slow.steps) == (0, 1, STEPS, STEPS)
    assert fast.sync_s is not None
    assert slow.sync_s is not None
    assert fast.sync_s - slow.sync_s > 0.5 * SLEEP  # rank 0 waited for what rank 1 slept
    assert summary.straggler is not None
    assert (summary.straggler.rank, summary.straggler.cause) == (1, place)
    assert summary.verdict is not None
    assert summary.verdict.kind == "straggler"
    assert summary.verdict.sentence.count("Rank 1 on") == 1


def test_one_rank_of_a_host_samples_it(trained: dict[str, RunSummary]) -> None:
    for summary in trained.values():
        (host,) = summary.hosts
        times = host.series["t"]
        assert times == sorted(times)  # type: ignore[type-var]
        assert summary.description["device"] == "2 x CPU"
        assert host.processes == 2  # with what both ranks used
