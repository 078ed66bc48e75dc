from __future__ import annotations

import numpy as np
import pytest

from segkit.data.sampling import epoch_batches, shard

ROWS = np.arange(100, 100 + 53)


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("batch", [1, 2, 7, 16, 64])
def test_all_ranks_together_see_each_row_once_in_as_many_steps(world: int, batch: int) -> None:
    ranks = [epoch_batches(ROWS, batch, seed=5, epoch=2, rank=r, world=world) for r in range(world)]
    assert len({len(batches) for batches in ranks}) == 1
    seen = np.concatenate([b.rows for batches in ranks for b in batches])
    assert sorted(seen) == sorted(ROWS)
    sizes = [len(b.rows) for batches in ranks for b in batches]
    assert min(sizes) >= 1
    assert max(sizes) <= max(batch, 2 if batch == 1 else 1)
    for step in zip(*ranks, strict=True):
        assert {b.total for b in step} == {sum(len(b.rows) for b in step)}


def test_no_step_is_tiny() -> None:
    sizes = [len(b.rows) for b in epoch_batches(np.arange(33), 16, seed=0, epoch=0)]
    assert sizes == [11, 11, 11]  # and not 16, 16, 1


def test_order_is_a_function_of_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return np.concatenate([b.rows for b in epoch_batches(ROWS, 8, seed=seed, epoch=epoch)]).tolist()  # type: ignore[no-any-return]

    assert order(1, 1) == order(1, 1)
    assert order(1, 1) != order(1, 2)
    assert order(1, 1) != order(2, 1)


@pytest.mark.parametrize("world", [1, 2])
def test_balance_draws_the_asked_share_from_the_foreground(world: int) -> None:
    foreground = np.zeros(len(ROWS), bool)
    foreground[:6] = True
    few = set(ROWS[:6].tolist())
    batches = epoch_batches(ROWS, 8, seed=0, epoch=0, rank=0, world=world, foreground=foreground, balance=0.5)
    rows = np.concatenate([b.rows for b in batches])
    share = np.mean([r in few for r in rows])
    assert 0.35 <= share <= 0.65
    everyone = np.concatenate(
        [
            b.rows
            for r in range(world)
            for b in epoch_batches(ROWS, 8, seed=0, epoch=0, rank=r, world=world, foreground=foreground, balance=0.5)
        ]
    )
    assert len(everyone) == len(ROWS)
    counts = [int((everyone == row).sum()) for row in few]
    assert max(counts) - min(counts) <= 1  # in turn, not at random


def test_validation_shards_are_a_partition() -> None:
    parts = [shard(ROWS, r, 4) for r in range(4)]
    assert sorted(np.concatenate(parts)) == sorted(ROWS)
