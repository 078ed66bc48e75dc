"""A Gaussian across slices, on a stream of them, so that a volume's probabilities are never held at once."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

MAX_SMOOTH = 10.0  # slices
_REACH = 3.0  # standard deviations at which the Gaussian is cut off


def planes_held(sigma: float) -> int:
    """How many planes are held at once."""
    return 2 * _radius(sigma) + 1 if sigma else 1


def smoothed(planes: Iterable[NDArray[np.float32]], sigma: float) -> Iterator[NDArray[np.float32]]:
    """Each plane as the weighted mean of itself and its neighbours, `sigma` in planes.

    At the ends the weights of the planes that there are add up to 1. A sigma of 0 gives the planes themselves.
    """
    if sigma == 0:
        yield from planes
        return
    radius = _radius(sigma)
    weights = [math.exp(-0.5 * (offset / sigma) ** 2) for offset in range(radius + 1)]
    near: deque[tuple[int, NDArray[np.float32]]] = deque(maxlen=2 * radius + 1)
    centre = last = -1
    for last, plane in enumerate(planes):
        near.append((last, plane))
        if last >= radius:
            centre = last - radius
            yield _mean(near, centre, weights)
    for position in range(centre + 1, last + 1):
        yield _mean(near, position, weights)


def _radius(sigma: float) -> int:
    return max(1, math.ceil(_REACH * sigma))


def _mean(near: Iterable[tuple[int, NDArray[np.float32]]], centre: int, weights: list[float]) -> NDArray[np.float32]:
    total, result = 0.0, None
    for position, plane in near:
        if abs(position - centre) < len(weights):
            weight = weights[abs(position - centre)]
            total += weight
            part = plane * np.float32(weight)
            result = part if result is None else result + part
    assert result is not None  # the centre itself is near
    mean: NDArray[np.float32] = result / np.float32(total)
    return mean
