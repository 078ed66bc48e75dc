"""Whether a container's `segkit serve` is ready, by its exit code. A container that does something else is healthy."""

from __future__ import annotations

import sys
import urllib.request
from pathlib import Path


def main() -> int:
    """0 for a server that is ready and for any other run."""
    words = Path("/proc/1/cmdline").read_text(encoding="utf-8").split("\0")
    if "serve" not in words:
        return 0
    port, host = _flag(words, "--port", "8000"), _flag(words, "--host", "127.0.0.1")
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1"
    try:
        urllib.request.urlopen(f"http://{host}:{port}/v2/health/ready", timeout=2)
    except OSError as error:
        print(error)
        return 1
    return 0


def _flag(words: list[str], name: str, otherwise: str) -> str:
    """The value of `name` in `--name value` or `--name=value`, the last one counting."""
    for index in range(len(words) - 1, -1, -1):
        if words[index] == name and index + 1 < len(words):
            return words[index + 1]
        if words[index].startswith(f"{name}="):
            return words[index].partition("=")[2]
    return otherwise


if __name__ == "__main__":
    sys.exit(main())
