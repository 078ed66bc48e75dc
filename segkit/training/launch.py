"""Starts the ranks of this node through torch's own elastic launcher, which is what torchrun is."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from segkit.errors import Interrupted, SegkitError
from segkit.profiling.sampling.process_tree import ProcessTree, process_stat
from segkit.resources import granted_cpus

# Options that only newer versions of torch's launcher have; an older torch goes without. The first leaves it no signal
# that we pass on ourselves: it would end on the second of two equal signals, and SLURM often sends two. The second
# gives the ranks two minutes instead of half a one to write their checkpoint.
NEWER_OPTIONS: dict[str, Any] = {"signals_to_handle": "SIGQUIT", "shutdown_timeout": 120}
PASSED_ON = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1")


def launch(ranks: int, arguments: list[str], *, nodes: int = 1, rendezvous: str = "") -> None:
    """Run `python -m segkit <arguments>` as `ranks` ranks of this node and wait for them.

    Args:
        ranks: processes on this node.
        arguments: of the command line.
        nodes: how many nodes run this same command; they find each other at `rendezvous`.
        rendezvous: HOST:PORT on one of the nodes, free for this run; "" with one node.

    Raises:
        Interrupted: the ranks were asked to stop, and saved.
        SystemExit: the ranks refused their input, and said why. SegkitError: a rank failed otherwise.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=nodes,
        max_nodes=nodes,
        nproc_per_node=ranks,
        run_id=f"segkit-{rendezvous or os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint=rendezvous or "localhost:0",
        local_addr=None if rendezvous else "localhost",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(),
        **{key: value for key, value in NEWER_OPTIONS.items() if key in LaunchConfig.__dataclass_fields__},
    )
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, granted_cpus() // ranks)))
    _quiet_the_launcher()
    with _signals_passed_on() as passed:
        try:
            elastic_launch(config, sys.executable)("-u", "-m", "segkit", *arguments)
        except ChildFailedError as error:
            _raise_for({failure.exitcode for failure in error.failures.values()}, passed, error)
        except SignalException as error:
            raise Interrupted("stopped by a signal; go on with --resume") from error
        except RendezvousError as error:
            if passed:  # the node that holds the rendezvous has ended first
                raise Interrupted("stopped; the state is saved, go on with --resume") from error
            raise SegkitError(
                f"the {nodes} nodes did not meet at {rendezvous}, or lost each other ({error}); another node's message "
                "may tell why, else look whether this node can reach that address"
            ) from error


class RankFailedError(SegkitError):
    """A rank that ended otherwise than well; its exit code becomes that of the launcher."""

    def __init__(self, codes: set[int]) -> None:
        shown = ", ".join(_shown(code) for code in sorted(codes))
        super().__init__(f"a rank failed ({shown}); its message is above")
        # The launcher ends the other ranks with SIGTERM, so that code names a cause only where it is alone.
        causes = codes - {-signal.SIGTERM} or codes
        self.exit_code = max(128 - code if code < 0 else code for code in causes)


def _shown(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    return f"{name}, most often for want of memory" if name == "SIGKILL" else name


def _raise_for(codes: set[int], passed: set[int], error: Exception) -> None:
    # One that has not begun ends by the signal itself.
    if Interrupted.exit_code in codes or codes <= {-number for number in passed}:
        raise Interrupted("stopped; the state is saved, go on with --resume") from error
    if codes == {SegkitError.exit_code}:
        raise SystemExit(SegkitError.exit_code) from error  # a user's mistake; the rank has told it in one line
    raise RankFailedError(codes) from error


@contextlib.contextmanager
def _signals_passed_on() -> Iterator[set[int]]:
    """Pass signals on to the ranks, as often as they come; gives the set of those that came.

    The launcher goes on and sees the ranks end, as after any other end.
    """
    passed: set[int] = set()
    if not Path("/proc/self").exists():  # there the launcher's own handlers have to do
        yield passed
        return

    def pass_on(number: int, frame: FrameType | None) -> None:
        passed.add(number)
        ranks = _ranks()
        for rank in ranks:
            with contextlib.suppress(ProcessLookupError):
                os.kill(rank, number)
        # A warning is sent again by who waits for its effect; it ends nobody who has not begun.
        if not ranks and number != signal.SIGUSR1:
            raise Interrupted(f"stopped by {signal.Signals(number).name} before the training had begun")

    before = {name: signal.signal(getattr(signal, name), pass_on) for name in PASSED_ON}
    try:
        yield passed
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


def _ranks() -> list[int]:
    """The processes that the launcher has started, known by what it tells them."""
    me = os.getpid()
    children = [pid for pid in ProcessTree(me).scan() if (stat := process_stat(pid)) and stat.parent == me]
    return [pid for pid in children if b"\0TORCHELASTIC_RUN_ID=" in b"\0" + _environment(pid)]


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def _quiet_the_launcher() -> None:
    """A rank says what went wrong in one line; the launcher's own account of it adds forty."""
    import logging

    for name in ("torch.distributed.elastic", "torch.distributed.launcher"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
