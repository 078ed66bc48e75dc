"""How fast a job would be with another loader or worker count, from what its parts cost alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

MOST_CONTENTION = 2.0  # beyond this, a run was disturbed by something else


@dataclass(frozen=True)
class Costs:
    """Seconds a batch (one step of one rank) of each part, measured alone."""

    compute: float  # the net on a batch that is on the device already
    load: float  # one process making a batch, files in the page cache
    copy: float  # host to device
    cpus: int  # granted to this rank
    shared: bool  # the net computes on the same CPUs as the loader
    contention: float = 1.0  # with `shared`: seconds that a second of loading adds to the net's step

    def step_seconds(self, workers: int) -> float:
        """Seconds a step with so many loader processes.

        The slower of two sides sets the pace: the device (compute and copy), and the loader (its cost divided among its
        processes). Without workers on a GPU the host loads the next batch while the device computes, since the loop
        never waits for the device; on a CPU one follows the other.
        """
        device = self.compute + self.copy
        if workers == 0:
            return device + self.load if self.shared else max(device, self.load)
        supply = self.load / min(workers, self.cpus)
        if self.shared:
            # The processes share the CPUs with the net: what they take, its step gets longer by; and all CPUs
            # together cannot do more than all the work.
            device += self.contention * self.load
            supply = max(supply, self.compute + self.load / self.cpus)
        return max(device, supply)

    def fitted(self, measured: Sequence[tuple[int, float]]) -> Costs:
        """With the contention that agrees best with (workers, seconds a step) pairs of real runs.

        The largest one where several agree as well; unchanged where nothing ran beside the net.
        """
        runs = [(workers, seconds) for workers, seconds in measured if workers > 0]
        if not self.shared or self.load <= 0 or not runs:
            return self

        def error(guess: Costs) -> float:
            return round(sum(math.log(guess.step_seconds(workers) / seconds) ** 2 for workers, seconds in runs), 9)

        guesses = [replace(self, contention=float(c)) for c in np.linspace(MOST_CONTENTION, 1 / self.cpus, 200)]
        return min(guesses, key=error)


def candidates(cpus: int, current: int) -> list[int]:
    """The worker counts worth trying: 0, 1, 2, ... the granted CPUs; over 8 each the square root of 2 times the last.

    The present count is always among them.
    """
    counts = {0, current, *range(1, min(cpus, 8) + 1)}
    step = 8.0
    while step < cpus:
        step *= 2**0.5
        counts.add(min(cpus, round(step)))
    return sorted(counts)
