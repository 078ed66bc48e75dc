"""Runs the application: socket, log, signals."""

from __future__ import annotations

import logging
import os
import socket
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from segkit.errors import SegkitError
from segkit.serving.access_log import access
from segkit.serving.app import build_app
from segkit.serving.auth import Guard
from segkit.serving.config import BatchConfig, Limits, ServerConfig
from segkit.serving.memory import share_arenas
from segkit.serving.metrics import Metrics
from segkit.serving.models import ModelStore
from segkit.serving.protocol import guarded

_SWITCH_S = 0.001  # longest that one thread keeps the interpreter from the others


def serve(
    models: Sequence[str], repositories: Sequence[Path], server: ServerConfig, batch: BatchConfig, limits: Limits
) -> None:
    """Load the models, listen, and answer until SIGTERM or SIGINT; accepted requests are finished first.

    Raises:
        SegkitError: a model, a token file or the address cannot be used.
    """
    # Of damaged files, which get their sentence anyway; Python would remember each text that it has warned of.
    warnings.filterwarnings("ignore", module="PIL")
    share_arenas()
    configure_logs()
    Guard.from_config(server)  # what is wrong with the tokens is said before the models are loaded
    metrics = Metrics()
    store = ModelStore(batch.device, metrics.observe_load, parallel=batch.parallel)
    with listen(server.host, server.port) as listening:
        store.add(models, repositories)
        app = build_app(server, batch, limits, store, metrics)
        config = uvicorn.Config(
            app,
            http=guarded(limits),
            lifespan="on",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=max(1, round(server.shutdown_s)),
        )
        host, port = listening.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        print(f"segkit serves {', '.join(store.names)} at http://{shown}:{port}/", file=sys.stderr, flush=True)
        # Python's own 5 ms are what a batch would wait while a scan is decoded.
        sys.setswitchinterval(_SWITCH_S)
        uvicorn.Server(config).run(sockets=[listening])


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises SegkitError where the address is taken or is not this machine's."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(address)
            listening.listen(512)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise SegkitError(f"cannot listen on {host} port {port} ({reason}); choose another --host or --port") from error
    return listening


def configure_logs() -> None:
    """The access log, JSON lines, on standard output; everything else on standard error."""
    for logger, stream, text in (
        (access, sys.stdout, "%(message)s"),
        (logging.getLogger("segkit.serving"), sys.stderr, "segkit: %(message)s"),
        (logging.getLogger("uvicorn.error"), sys.stderr, "segkit: %(message)s"),
    ):
        handler = logging.StreamHandler(stream)
        handler.setFormatter(logging.Formatter(text))
        logger.handlers[:] = [handler]
        logger.propagate = False
        logger.setLevel(logging.INFO if logger.name != "uvicorn.error" else logging.ERROR)
