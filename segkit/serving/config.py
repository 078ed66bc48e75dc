"""What `segkit serve` can be told: where it listens, how it batches, what it refuses."""

from __future__ import annotations

from dataclasses import dataclass

from segkit.config import Checked, option
from segkit.inference.session import DEVICES

MEGA = 2**20


@dataclass(frozen=True)
class ServerConfig(Checked):
    """Server."""

    host: str = option("127.0.0.1", "Address to listen on; any but a loopback address asks for a token")
    port: int = option(8000, "Port; 0 takes a free one", low=0, high=65535)
    token_file: str = option("", "File with the tokens, one a line, of those who may send scans")
    admin_token_file: str = option("", "File with the tokens of those who may also load and unload models")
    auth: bool = option(True, "Ask for a token on any address but a loopback one")
    watch_s: float = option(2.0, "Seconds between looks for new model files; 0 never looks", low=0)
    shutdown_s: float = option(120.0, "Seconds that accepted requests get to finish on shutdown", low=0)


@dataclass(frozen=True)
class BatchConfig(Checked):
    """Batching."""

    device: str = option("auto", "auto takes a GPU where there is one", choices=DEVICES)
    parallel: int = option(2, "Batches in the net at once; on a CPU they share the cores", low=1, high=64)
    batch: int = option(0, "Slices of the training size in a batch; 0 chooses by device", low=0, high=4096)
    delay_ms: float = option(2.0, "Longest wait for slices of requests that are being decoded", low=0, high=1000)


@dataclass(frozen=True)
class Limits(Checked):
    """Limits."""

    max_requests: int = option(64, "Requests in work at once; one more gets 503", low=1, high=4096)
    max_body_mb: float = option(256.0, "Body of a request, and what a zip or a gzip body unpacks to", low=0.001)
    max_bodies_mb: float = option(1024.0, "Bodies and unpacked zips of all requests in work; above it 503", low=0.001)
    max_slices: int = option(2048, "Slices of a scan", low=1)
    max_megavoxels: float = option(64.0, "Values (voxels times channels) of a scan, in 2^20", low=0.001)
    queue_megavoxels: float = option(160.0, "Values of all scans in work, in 2^20; above it 503", low=0.001)
    deadline_s: float = option(120.0, "From the last byte of a request to its answer; above it 503", low=0.01)
    grace_s: float = option(10.0, "Seconds for the headers, and before the speed of a body counts", low=0.01)
    min_kb_per_s: float = option(16.0, "Slowest body that is still waited for, and slowest reader", low=0.001)

    @property
    def body_bytes(self) -> int:
        """The longest body."""
        return int(self.max_body_mb * MEGA)

    @property
    def voxels(self) -> int:
        """The most values of one scan."""
        return int(self.max_megavoxels * MEGA)

    def patience(self, count: int) -> float:
        """Seconds that may pass until `count` bytes have come or gone."""
        return self.grace_s + count / (1024 * self.min_kb_per_s)
