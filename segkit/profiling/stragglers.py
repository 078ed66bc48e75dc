"""Which rank the others wait for, and why.

At each step the ranks meet in the gradient all-reduce. The last to arrive waits least; what another rank waits longer
than that one, it waits for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from segkit.profiling.rates import mean_interval
from segkit.profiling.records import RankInfo, StepRecord
from segkit.profiling.samples import mean
from segkit.profiling.summary import Interval, RankSummary, Straggler
from segkit.profiling.text import percent

LEAST_COST = 0.03  # of the others' time, to be called a straggler

CAUSES = {
    "loader": "its loader is slower",
    "copy": "its copies to the device are slower",
    "compute": "it computes slower",
    "host": "its host does more between the steps",
}


def compare_ranks(ranks: Mapping[int, tuple[RankInfo | None, Sequence[StepRecord]]]) -> list[RankSummary]:
    """The ranks side by side, means over the steps."""
    waits = _waits({rank: steps for rank, (_, steps) in ranks.items()})
    return [
        RankSummary(
            rank=rank,
            host=info.host if info else "",
            device=info.name if info else "",
            steps=len(steps),
            step_s=mean([s.step_s for s in steps]) or 0.0,
            wait_s=mean([s.wait_s for s in steps]) or 0.0,
            starved_s=mean([s.starved_s for s in steps]) or 0.0,
            copy_s=mean([s.copy_s for s in steps]),
            compute_s=mean([s.compute_s for s in steps]),
            sync_s=mean([s.sync_s for s in steps]),
            waited_for_others_s=waits[rank].waited if rank in waits else None,
            cost_others_s=waits[rank].cost if rank in waits else None,
            last_share=waits[rank].last if rank in waits else None,
            behind_s=waits[rank].behind if rank in waits else None,
        )
        for rank, (info, steps) in ranks.items()
    ]


@dataclass(frozen=True)
class _Waits:
    """One rank; means over the steps that all ranks have, in seconds."""

    waited: float  # for slower ranks
    cost: float  # what each other rank waited for this one
    last: float  # share of the steps at which this one came last
    behind: Interval  # cost - waited


def _waits(ranks: Mapping[int, Sequence[StepRecord]]) -> dict[int, _Waits]:
    """Empty where there is nothing to compare."""
    syncs = {rank: {s.step: s.sync_s for s in steps if s.sync_s is not None} for rank, steps in ranks.items()}
    common = sorted(set.intersection(*(set(one) for one in syncs.values()))) if syncs else []
    if len(syncs) < 2 or not common:
        return {}
    table = np.array([[one[step] for step in common] for one in syncs.values()], float)  # [ranks, steps]
    waited = table - table.min(axis=0)
    slowest = table.argmin(axis=0)
    each_other = waited.sum(axis=0) / (len(syncs) - 1)
    cost = np.array([np.where(slowest == i, each_other, 0.0) for i in range(len(syncs))])
    return {
        rank: _Waits(
            waited=float(waited[i].mean()),
            cost=float(cost[i].mean()),
            last=float((slowest == i).mean()),
            behind=mean_interval(cost[i] - waited[i]),
        )
        for i, rank in enumerate(syncs)
    }


def find_straggler(ranks: Sequence[RankSummary]) -> Straggler | None:
    """The rank that costs the others most, if that is at least 3 % of their time and more than chance would give.

    Ranks that take turns in being last are none: what a straggler costs the others exceeds what they cost it, and
    its 95 % interval excludes 0.
    """
    compared = [rank for rank in ranks if rank.cost_others_s is not None]
    if len(compared) < 2:
        return None
    worst = max(compared, key=lambda rank: rank.cost_others_s or 0.0)
    others = [rank for rank in compared if rank is not worst]
    share = (worst.cost_others_s or 0.0) / max(mean([rank.step_s for rank in others]) or 0.0, 1e-9)
    behind = worst.behind_s.low if worst.behind_s is not None else None
    if share < LEAST_COST or behind is None or behind <= LEAST_COST / 2 * worst.step_s:
        return None
    cause, extra = _cause(worst, others)
    sentence = (
        f"Rank {worst.rank} on {worst.host or 'its host'} holds the others back: it came last at "
        f"{percent(worst.last_share or 0.0)} of the steps and cost each of them "
        f"{1000 * (worst.cost_others_s or 0.0):.1f} ms a step ({percent(share)} of their time), "
        f"because {CAUSES[cause]} ({1000 * extra:+.1f} ms a step against the median of the others)."
    )
    return Straggler(worst.rank, worst.host, share, cause, sentence)


def _cause(worst: RankSummary, others: Sequence[RankSummary]) -> tuple[str, float]:
    """What the rank spends more time on than the median of the others, and how much more, in seconds a step."""

    def parts(rank: RankSummary) -> dict[str, float]:
        copy, compute, sync = rank.copy_s or 0.0, rank.compute_s or 0.0, rank.sync_s or 0.0
        rest = rank.step_s - rank.starved_s - copy - compute - sync
        return {"loader": rank.starved_s, "copy": copy, "compute": compute, "host": rest}

    usual = [parts(rank) for rank in others]
    extra = {key: value - float(np.median([one[key] for one in usual])) for key, value in parts(worst).items()}
    cause = max(extra, key=lambda key: extra[key])
    return cause, extra[cause]
