"""Who this process is among the ranks, and the few things that ranks tell each other."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn

from segkit.errors import SegkitError
from segkit.resources import granted_cpus

_GROUPS: dict[str, dist.ProcessGroup] = {}  # what is joined beside the default group


@dataclass(frozen=True)
class World:
    """This process's place. With one process nothing is ever sent."""

    rank: int
    size: int
    local_size: int
    device: torch.device

    @property
    def control(self) -> dist.ProcessGroup | None:
        """The gloo group for flags and counts, None with one process. Looked up and not kept: see `leave_world`."""
        return _GROUPS.get("control", dist.group.WORLD) if self.size > 1 else None

    @property
    def is_main(self) -> bool:
        """Whether this rank prints and writes."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait for every rank."""
        if self.control is not None:
            dist.barrier(group=self.control)

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Sum over ranks, of a tensor on any device; the result is on the host."""
        total = values.detach().cpu().clone()
        if self.control is not None:
            dist.all_reduce(total, group=self.control)
        return total

    def broadcast_text(self, text: str, source: int = 0) -> str:
        """The text of rank `source`, on every rank (as bytes: nothing is pickled)."""
        if self.control is None:
            return text
        data = torch.frombuffer(bytearray(text.encode()) or bytearray(1), dtype=torch.uint8)
        length = torch.tensor([len(data)])
        dist.broadcast(length, source, group=self.control)
        data = data if self.rank == source else torch.empty(int(length), dtype=torch.uint8)
        dist.broadcast(data, source, group=self.control)
        return bytes(data.tolist()).rstrip(b"\0").decode()

    def share_buffers(self, net: nn.Module) -> None:
        """Give every rank the buffers of rank 0: each rank's batch-norm statistics come from its own batches."""
        if self.control is not None:
            for buffer in net.buffers():
                dist.broadcast(buffer, 0)


class Flags:
    """A number that each rank may raise; every rank learns the highest, at the same step.

    The all-reduce of step n runs beside the computation and is read at step n + 1, so that agreeing
    costs a step of delay instead of a wait.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._sent: tuple[torch.Tensor, dist.Work] | None = None

    def agree(self, raised: int) -> int:
        """Raise a flag (0: none) and give the highest that any rank raised at the step before (alone: now)."""
        if self._world.control is None:
            return raised
        agreed = self.settle()
        value = torch.tensor([raised])
        work = dist.all_reduce(value, dist.ReduceOp.MAX, group=self._world.control, async_op=True)
        self._sent = (value, work)
        return agreed

    def agree_now(self, raised: int) -> int:
        """As `agree`, but wait for this step's exchange too: the highest flag of this step and the last."""
        earlier = self.agree(raised)
        return max(earlier, self.settle())

    def settle(self) -> int:
        """Wait for the exchange under way, if any, and give its result."""
        if self._sent is None:
            return 0
        value, work = self._sent
        work.wait()
        self._sent = None
        return int(value)


def launched_by_others() -> bool:
    """Whether torchrun or srun has started this process as one rank of several."""
    return "LOCAL_RANK" in os.environ or _slurm_ranks() > 1


def _slurm_ranks() -> int:
    """Tasks of the SLURM step that this process is in; 0 outside one (in a batch script's own shell)."""
    in_step = "SLURM_STEP_ID" in os.environ and os.environ.get("SLURM_STEP_ID") not in ("4294967291", "batch")
    return int(os.environ.get("SLURM_NTASKS", "0")) if in_step and "SLURM_PROCID" in os.environ else 0


def join_world(device: str) -> World:
    """Join the other ranks, as torchrun or SLURM describe them; alone where neither does.

    Raises:
        SegkitError: more ranks on this node than GPUs, or CUDA asked for where there is none.
    """
    if "LOCAL_RANK" not in os.environ and _slurm_ranks() > 1:
        _describe_slurm_as_torchrun()
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    local_size = int(os.environ.get("LOCAL_WORLD_SIZE", str(size)))
    chosen = choose_device(device, local_rank, local_size)
    torch.set_num_threads(max(1, granted_cpus() // (1 if _own_grant() else local_size)))
    if "LOCAL_RANK" not in os.environ:
        return World(0, 1, 1, chosen)
    backend = "nccl" if chosen.type == "cuda" else "gloo"
    if not dist.is_initialized():
        # DDP imports this; where it comes after the group is made, its default arguments keep the group for ever.
        importlib.import_module("torch.distributed.nn.functional")
        bound = {"device_id": chosen} if chosen.type == "cuda" else {}
        dist.init_process_group(backend, timeout=timedelta(minutes=30), **bound)  # type: ignore[arg-type]
        if backend != "gloo":
            _GROUPS["control"] = dist.new_group(backend="gloo")
    return World(rank, size, local_size, chosen)


def _own_grant() -> bool:
    """Whether the granted CPUs are this rank's own (one SLURM task a rank) and not shared by the node's ranks."""
    return _slurm_ranks() > 1 and "TORCHELASTIC_RUN_ID" not in os.environ


def leave_world() -> None:
    """Leave the process group, if any, once the nets that used it are gone.

    gloo ends its threads only when nothing holds the group any more. A thread that is left over and lets go of its
    last tensor while the interpreter shuts down aborts the process, after all its work was done.
    """
    if dist.is_initialized():
        _GROUPS.clear()
        dist.destroy_process_group()
        gc.collect()  # a DDP net refers to itself


@contextlib.contextmanager
def one_line_if_a_rank_is_lost(world: World) -> Iterator[None]:
    """Turn the backend's account of a lost peer into one line: the rank that failed has told why."""
    try:
        yield
    except RuntimeError as error:
        lost = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")
        if world.size > 1 and (isinstance(error, dist.DistBackendError) or any(text in str(error) for text in lost)):
            raise SegkitError(f"rank {world.rank} lost contact with another rank; its message tells why") from error
        raise


def choose_device(device: str, local_rank: int = 0, local_size: int = 1) -> torch.device:
    """The device of a rank: `auto` is CUDA where there is one."""
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "cpu" or (device == "auto" and available == 0):
        return torch.device("cpu")
    if available == 0:
        raise SegkitError("--device cuda: PyTorch sees no GPU here; use --device cpu, or check the driver (nvidia-smi)")
    if local_rank >= available:
        # With one task a GPU, SLURM shows each rank only its own.
        if available == 1 and _own_grant():
            return torch.device("cuda", 0)
        raise SegkitError(f"{local_size} ranks on this node, but PyTorch sees {available} GPUs; use --gpus {available}")
    chosen = torch.device("cuda", local_rank)
    torch.cuda.set_device(chosen)
    return chosen


def _describe_slurm_as_torchrun() -> None:
    environment = {
        "RANK": os.environ["SLURM_PROCID"],
        "WORLD_SIZE": os.environ["SLURM_NTASKS"],
        "LOCAL_RANK": os.environ.get("SLURM_LOCALID", "0"),
        "LOCAL_WORLD_SIZE": os.environ.get("SLURM_TASKS_PER_NODE", "1").split("(")[0].split(",")[0],
        "MASTER_ADDR": os.environ.get("MASTER_ADDR") or _first_slurm_host(),
        # One port a job, so that two jobs on a node do not meet.
        "MASTER_PORT": os.environ.get("MASTER_PORT") or str(20000 + int(os.environ["SLURM_JOB_ID"]) % 20000),
    }
    os.environ.update(environment)


def _first_slurm_host() -> str:
    """The first host of the job. scontrol expands the list; inside a container without it, a plain name will do."""
    nodes = os.environ.get("SLURM_STEP_NODELIST") or os.environ["SLURM_JOB_NODELIST"]
    if "[" not in nodes:
        return nodes.split(",")[0]
    try:
        shown = subprocess.run(
            ["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True, timeout=30
        )
        return shown.stdout.split()[0]
    except (OSError, subprocess.SubprocessError):
        prefix, _, rest = nodes.partition("[")  # node[03-05,09] begins with node03
        return prefix + rest.split("]")[0].split(",")[0].split("-")[0]
