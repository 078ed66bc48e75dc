"""A SLURM of two nodes on this host, and what tests ask it."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import clean_environment

HERE = Path(__file__).parent
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")


class Cluster:
    """Runs commands as on a login node, with the checkout's segkit first on PATH, and watches jobs."""

    def __init__(self, conf: Path) -> None:
        self.environment = {
            **clean_environment(),
            "SLURM_CONF": str(conf),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        del self.environment["SLURM_CPUS_PER_TASK"]
        # Every test that trains runs in the image, too, where one is given.
        self.image = [f"--image={os.environ['SEGKIT_SIF']}"] if os.environ.get("SEGKIT_SIF") else []

    def run(self, *words: object, cwd: Path | None = None) -> str:
        """Standard output of a command that ends well."""
        done = subprocess.run(
            [str(word) for word in words], cwd=cwd, env=self.environment, capture_output=True, text=True, timeout=200
        )
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def submit(self, verb: str, *words: object, cwd: Path) -> str:
        """`segkit slurm VERB ... --submit`; the job's number."""
        shown = self.run("segkit", "slurm", verb, "--cpus=1", *self.image, *words, "--submit", cwd=cwd)
        found = re.search(r"job (\d+): submitted", shown)
        assert found, shown
        return found[1]

    def show(self, job: str) -> dict[str, str]:
        """Fields of `scontrol show job`."""
        line = self.run("scontrol", "show", "job", "--oneliner", job).splitlines()[0]
        return dict(word.split("=", 1) for word in line.split() if "=" in word)

    def wait(self, *jobs: str, seconds: float = 600) -> list[tuple[str, str]]:
        """State and exit code of jobs that have ended."""
        wait_for(lambda: all(self.show(job)["JobState"] in ENDED for job in jobs), seconds)
        return [(shown["JobState"], shown["ExitCode"]) for shown in map(self.show, jobs)]


def wait_for(what: Callable[[], object], seconds: float = 300) -> None:
    """Poll until it is true."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.5)


def text_of(path: Path) -> str:
    """A log so far."""
    return path.read_text("utf-8") if path.exists() else ""


def first_free_port() -> int:
    """The first of three in a row that nothing on this host listens at: for the controller and two nodes."""
    for first in range(16817, 32000, 3):
        with contextlib.suppress(OSError), contextlib.ExitStack() as held:
            for port in range(first, first + 3):
                held.enter_context(socket.create_server(("", port)))
            return first
    raise OSError("no three free ports in a row")


@contextlib.contextmanager
def running_cluster(folder: Path) -> Iterator[Cluster]:
    """Start it, stop it. The test is skipped where that is not possible."""
    if os.geteuid() or not Path("/etc/debian_version").exists():
        pytest.skip("containers and clusters are tested as root on Debian")
    subprocess.run([HERE / "slurm_install.sh"], check=True)
    try:
        words = [HERE / "slurm_up.sh", folder, str(first_free_port())]
        started = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
        yield Cluster(Path(started.stdout.split()[-1]))
    finally:
        subprocess.run([HERE / "slurm_down.sh", folder], check=False, capture_output=True)
