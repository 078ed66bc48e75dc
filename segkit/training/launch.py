"""Starts N ranks on this node through torch's own elastic launcher."""

from __future__ import annotations

import os
import sys
from typing import Any

from segkit.errors import Interrupted, SegkitError
from segkit.resources import granted_cpus

# Options that only newer versions of torch's launcher have: pass SLURM's warning on, too, and give the ranks two
# minutes instead of half a one to write their checkpoint. An older torch goes without.
NEWER_OPTIONS: dict[str, Any] = {"signals_to_handle": "SIGTERM,SIGINT,SIGHUP,SIGUSR1", "shutdown_timeout": 120}


def launch(ranks: int, arguments: list[str]) -> None:
    """Run `python -m segkit <arguments>` as `ranks` ranks of one node and wait for them.

    Signals are passed on to the ranks, which save and stop.

    Raises:
        Interrupted: the ranks were asked to stop, and saved.
        SystemExit: the ranks refused their input, and said why. SegkitError: a rank failed otherwise.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=ranks,
        run_id=f"segkit-{os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(),
        **{key: value for key, value in NEWER_OPTIONS.items() if key in LaunchConfig.__dataclass_fields__},
    )
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, granted_cpus() // ranks)))
    _quiet_the_launcher()
    try:
        elastic_launch(config, sys.executable)("-u", "-m", "segkit", *arguments)
    except ChildFailedError as error:
        _raise_for({failure.exitcode for failure in error.failures.values()}, error)
    except SignalException as error:
        raise Interrupted("stopped by a signal; go on with --resume") from error


def _raise_for(codes: set[int], error: Exception) -> None:
    if Interrupted.exit_code in codes:
        raise Interrupted("stopped; the state is saved, go on with --resume") from error
    if codes == {SegkitError.exit_code}:
        raise SystemExit(SegkitError.exit_code) from error  # a user's mistake; the rank has told it in one line
    shown = ", ".join(str(code) for code in sorted(codes))
    raise SegkitError(f"a rank failed (exit code {shown}); its message is above") from error


def _quiet_the_launcher() -> None:
    """A rank says what went wrong in one line; the launcher's own account of it adds forty."""
    import logging

    for name in ("torch.distributed.elastic", "torch.distributed.launcher"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
