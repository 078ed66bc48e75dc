"""The network, which segkit does not need: loopback alone is used, by ranks on one node and by `serve`."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from segkit.doctor.finding import Finding, failure, note, ok, warning

_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_REPORTS = "ORT_DISABLE_TELEMETRY"


def check_network(environment: Mapping[str, str] = os.environ) -> list[Finding]:
    """Loopback, and the variables that matter."""
    return [*_reports(environment), _loopback(), *_proxies(environment)]


def _reports(environment: Mapping[str, str]) -> list[Finding]:
    if environment.get(_REPORTS, "0").lower() in ("0", "", "false", "off", "no"):
        fact = f"{_REPORTS}={environment.get(_REPORTS, '')}: ONNX Runtime may report sessions to Microsoft"
        meaning = "What runs here may be told to others, and an identifier is kept in the home folder."
        return [warning("network.reports", fact, meaning, f"unset {_REPORTS}, and segkit turns it off")]
    fact = "segkit opens no connection of its own, and nothing is downloaded; ONNX Runtime's reports are off"
    return [ok("network.reports", fact, "It works without network. Variables of Hugging Face and the like do nothing.")]


def _loopback() -> Finding:
    """A connection to this process itself, at 127.0.0.1."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(2)
            with socket.create_connection(server.getsockname()[:2], timeout=2):
                pass
    except OSError as error:
        fact = f"no connection to 127.0.0.1 ({error.strerror or error})"
        remedy = "bring the interface lo up (ip link set lo up), or keep the host's network"
        return failure("network.loopback", fact, "Several ranks (--gpus) and serve cannot work.", remedy)
    return ok("network.loopback", "loopback answers", "Ranks on one node and serve can work.")


def _proxies(environment: Mapping[str, str]) -> list[Finding]:
    lower = {name.lower(): value for name, value in environment.items()}
    names = [name for name in _PROXIES if lower.get(name)]
    if not names:
        return []
    passed_by = [word.strip() for word in lower.get("no_proxy", "").split(",")]
    if {"localhost", "127.0.0.1", "*"} & set(passed_by):
        return []
    fact = f"{', '.join(names)} set, and no_proxy leaves localhost out"
    meaning = "segkit does not use it, but clients such as curl ask the proxy for a server that runs here."
    return [note("network.proxy", fact, meaning, "export no_proxy=localhost,127.0.0.1")]
