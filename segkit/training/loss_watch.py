"""Reads each step's loss without making the device wait, and notices when it is no number."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class StepLoss:
    """The loss of one step on this rank."""

    step: int
    rows: np.ndarray
    loss: float
    dice: float

    @property
    def is_finite(self) -> bool:
        """False for NaN and infinity."""
        return math.isfinite(self.loss)


class LossWatch:
    """On a GPU the values travel to pinned memory behind the computation and are read two steps later."""

    DEPTH = 2

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._pending: deque[tuple[int, np.ndarray, torch.Tensor, torch.cuda.Event | None]] = deque()

    def push(self, step: int, rows: np.ndarray, loss: torch.Tensor, dice: torch.Tensor) -> None:
        """Note a step's loss and soft Dice, as they are on the device."""
        values = torch.stack([loss.detach().float(), dice.float()])
        event = None
        if self._cuda:
            host = torch.empty(2, pin_memory=True)
            host.copy_(values, non_blocking=True)
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
            values = host
        self._pending.append((step, rows, values, event))

    def ready(self, *, everything: bool = False) -> list[StepLoss]:
        """The losses that can be read without waiting; with `everything`, all, waiting for the device."""
        depth = self.DEPTH if self._cuda and not everything else 0
        out = []
        while len(self._pending) > depth:
            step, rows, values, event = self._pending.popleft()
            if event is not None:
                event.synchronize()
            loss, dice = values.tolist()
            out.append(StepLoss(step, rows, loss, dice))
        return out
