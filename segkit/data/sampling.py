"""Which slices make which batch: a pure function of seed and epoch, so that a resumed run sees the same order."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Batch(NamedTuple):
    """One rank's rows of a step, and how many rows all ranks together have in it."""

    rows: np.ndarray  # int64
    total: int


def epoch_batches(
    rows: np.ndarray,
    batch: int,
    *,
    seed: int,
    epoch: int,
    rank: int = 0,
    world: int = 1,
    foreground: np.ndarray | None = None,
    balance: float = 0.0,
) -> list[Batch]:
    """The batches of one rank in one epoch.

    All ranks take the same number of steps, and over all ranks each row comes exactly once. Rows are
    spread evenly over the steps (sizes differ by at most one), so that no step has a tiny batch whose
    statistics would harm batch norm. With `balance` > 0 that share of each global batch is drawn from the
    rows where `foreground` (bool, aligned with `rows`) holds, the rest from the others; then a row
    may come more or less than once.

    Returns:
        One batch a step, each of at most `batch` rows (one more where `batch` is 1 and the rows do not
        divide evenly among the ranks).
    """
    order = (
        _balanced(rows, foreground, balance, batch * world, seed, epoch) if balance else _shuffled(rows, seed, epoch)
    )
    steps = max(1, min(-(-len(order) // (batch * world)), len(order) // world))
    return [Batch(np.array_split(chunk, world)[rank], len(chunk)) for chunk in np.array_split(order, steps)]


def _generator(seed: int, epoch: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([seed, epoch]))


def _shuffled(rows: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    return _generator(seed, epoch).permutation(rows)


def _balanced(
    rows: np.ndarray, foreground: np.ndarray | None, balance: float, chunk: int, seed: int, epoch: int
) -> np.ndarray:
    generator = _generator(seed, epoch)
    if foreground is None or not foreground.any() or foreground.all():
        return generator.permutation(rows)
    # Spread the picks evenly: position p of the order is a foreground pick whenever the running
    # total balance * (p + 1) passes a whole number; each chunk is then shuffled, so that ranks share alike.
    picks = np.diff(np.floor(balance * np.arange(len(rows) + 1) + 0.5)).astype(bool)
    order = np.empty(len(rows), rows.dtype)
    order[picks] = _cycled(rows[foreground], int(picks.sum()), generator)
    order[~picks] = _cycled(rows[~foreground], int((~picks).sum()), generator)
    return np.concatenate([generator.permutation(order[i : i + chunk]) for i in range(0, len(order), chunk)])


def _cycled(pool: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """`count` rows from `pool`: permutations one after another, so that none comes twice before all came once."""
    rounds = -(-count // len(pool))
    return np.concatenate([generator.permutation(pool) for _ in range(rounds)] or [pool[:0]])[:count]


def shard(rows: np.ndarray, rank: int, world: int) -> np.ndarray:
    """One rank's part of the rows for validation: each row on exactly one rank, none padded or repeated."""
    return rows[rank::world]
