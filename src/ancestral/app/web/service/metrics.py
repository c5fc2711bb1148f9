"""What a service counts and measures, for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ancestral.app.sampling.batching import Batch
from ancestral.version import __version__

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
SAMPLES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Counters of a service. names: the name of each model by its `id`. waiting: returns the samples in the queue."""

    def __init__(self, names: Mapping[int, str], waiting: Callable[[], int]):
        self.names, self.registry = names, CollectorRegistry()
        ProcessCollector(registry=self.registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=self.registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, labels, registry=self.registry)

        def histogram(name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
            return Histogram(name, text, labels, registry=self.registry, buckets=buckets)

        self.requests = counter("ancestral_requests", "Requests that were answered.", "route", "status")
        self.seconds = histogram("ancestral_request_seconds", "From a request to the end of its answer.", SECONDS, "route")
        self.running = gauge("ancestral_requests_running", "Requests that are not answered yet.")
        self.ended = counter("ancestral_requests_ended", "Requests without samples: busy, late, left.", "reason")
        self.samples = counter("ancestral_samples", "Samples that were drawn.", "model")
        self.evaluations = counter("ancestral_evaluations", "Evaluations of a network, each for a whole batch.", "model")
        self.sizes = histogram("ancestral_batch_samples", "Samples of a batch.", SAMPLES, "model")
        self.times = histogram("ancestral_batch_seconds", "Seconds of a batch.", SECONDS, "model")
        gauge("ancestral_waiting_samples", "Samples in the queue.").set_function(waiting)
        gauge("ancestral_info", "Version of ancestral.", "version").labels(__version__).set(1)

    def batch(self, batch: Batch) -> None:
        """Count a batch."""
        name = self.names[id(batch.model)]
        self.samples.labels(name).inc(batch.samples)
        self.evaluations.labels(name).inc(batch.nfe)
        self.sizes.labels(name).observe(batch.samples)
        self.times.labels(name).observe(batch.seconds)

    def text(self) -> bytes:
        """Return all figures in the text format of Prometheus."""
        return generate_latest(self.registry)


class Measured:
    """ASGI middleware that counts requests and their time by route. There are endlessly many paths, so they are no label."""

    def __init__(self, app: ASGIApp, metrics: Metrics):
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and count it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self.metrics.running.inc()
        try:
            await self.app(scope, receive, noted)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.running.dec()
            self.metrics.requests.labels(route, status).inc()
            self.metrics.seconds.labels(route).observe(time.perf_counter() - begun)
