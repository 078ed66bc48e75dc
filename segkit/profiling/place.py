"""Where this process stands among the ranks of its job, found without any help from the training program."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Place:
    """A rank, as torch.distributed, torchrun or SLURM describe it; alone where none does."""

    rank: int
    world: int
    local_rank: int
    host: str

    @classmethod
    def from_environment(cls) -> Place:
        """Ask torch.distributed where it runs; else read torchrun's variables, else those of a SLURM step."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        if "LOCAL_RANK" not in os.environ and "SLURM_STEP_ID" in os.environ:
            names = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")
        rank, world, local = (
            _number(os.environ.get(name), default) for name, default in zip(names, (0, 1, 0), strict=True)
        )
        dist = distributed()
        if dist is not None:  # ranks that were started without any variables (torch.multiprocessing)
            rank, world = dist.get_rank(), dist.get_world_size()
        return cls(rank, max(1, world), local, socket.gethostname())


def distributed() -> Any:
    """The module torch.distributed where its ranks have found each other; None elsewhere. Does not import torch."""
    dist = sys.modules.get("torch.distributed")
    return dist if dist is not None and dist.is_available() and dist.is_initialized() else None


def _number(text: str | None, default: int) -> int:
    return int(text) if text and text.isdigit() else default


def device_in_use(device: torch.device | str | None) -> torch.device | None:
    """The torch device that a loop's work runs on; None: the host's CPU, or torch is not used.

    Without one given: CUDA's current device, if the program has started CUDA.
    """
    if "torch" not in sys.modules:
        return None
    import torch

    if device is not None:
        return torch.device(device)
    started = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return torch.device("cuda", torch.cuda.current_device()) if started else None
