"""What Prometheus is told: times, sizes, how full the server is, the GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from segkit.serving.batcher import BatchReport
from segkit.serving.gpu import GpuCollector

if TYPE_CHECKING:
    from segkit.serving.engine import Engine

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_SLICES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The figures of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        ProcessCollector(registry=registry)
        registry.register(GpuCollector())
        self._requests = Counter("segkit_requests", "Requests answered.", ("route", "status"), registry=registry)
        self._seconds = Histogram(
            "segkit_request_seconds", "From headers to answer.", ("route",), buckets=_SECONDS, registry=registry
        )
        self._decode = Histogram(
            "segkit_decode_seconds", "Reading of a scan.", ("format",), buckets=_SECONDS, registry=registry
        )
        self._queue = Histogram(
            "segkit_queue_seconds", "Wait for a batch.", ("model",), buckets=_SECONDS, registry=registry
        )
        self._compute = Histogram(
            "segkit_compute_seconds", "The net on one batch.", ("model",), buckets=_SECONDS, registry=registry
        )
        self._batch = Histogram(
            "segkit_batch_slices", "Slices in a batch.", ("model",), buckets=_SLICES, registry=registry
        )
        self._loads = Counter("segkit_model_loads", "Loads of a model.", ("model", "result"), registry=registry)

    def observe_request(self, route: str, status: int, seconds: float) -> None:
        """Count an answer; `route` is the pattern of the path, not the path."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def observe_decode(self, kind: str, seconds: float) -> None:
        """Count a scan that was read."""
        self._decode.labels(kind).observe(seconds)

    def observe_batch(self, report: BatchReport) -> None:
        """Count a batch."""
        name = report.name
        self._compute.labels(name).observe(report.compute_s)
        self._batch.labels(name).observe(report.slices)
        for seconds in report.queue_s:
            self._queue.labels(name).observe(seconds)

    def observe_load(self, name: str, well: bool) -> None:
        """Count a load of a model."""
        self._loads.labels(name, "loaded" if well else "refused").inc()

    def watch(self, engine: Engine) -> None:
        """Show how full `engine` is, at the moment it is asked."""
        self._gauge("segkit_requests_in_work", "Requests in work.", lambda: engine.requests.taken)
        self._gauge("segkit_queue_slices", "Slices that wait for a batch.", lambda: engine.batcher.waiting)
        self._gauge("segkit_body_bytes", "Bodies of requests in work.", lambda: engine.bodies.taken)
        self._gauge("segkit_scan_values", "Values of the scans in work.", lambda: engine.values.taken)

    def page(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)

    def _gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        Gauge(name, text, registry=self.registry).set_function(value)
