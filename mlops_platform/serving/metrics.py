"""What Prometheus reads: requests, predictions, and how the service stands to the registry and to its log."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from mlops_platform.serving.shipping import Look

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Metrics:
    """The figures of one worker; with several, a scrape adds them up over all (prometheus-client's files)."""

    def __init__(self, *, several_workers: bool) -> None:
        """Make them.

        Args:
            several_workers: Figures are shared through PROMETHEUS_MULTIPROC_DIR, which is set before this module
                is imported.
        """
        self._several = several_workers
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "mlops_requests", "HTTP requests.", ("method", "path", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "mlops_request_seconds", "Seconds to answer.", ("path",), buckets=_SECONDS, registry=self.registry
        )
        self.predictions = Counter(
            "mlops_predictions", "Texts predicted.", ("tag", "model_version"), registry=self.registry
        )
        self.feedback = Counter("mlops_feedback", "Labels that came back.", registry=self.registry)
        self.unknown_tags = Counter(
            "mlops_feedback_unknown_tags", "Labels whose tag the served model doesn't know.", registry=self.registry
        )
        self.log_errors = Counter("mlops_log_errors", "Requests that could not be logged.", registry=self.registry)
        self.shipped = Counter("mlops_log_shipped", "Records shipped to the warehouse.", registry=self.registry)
        self.ship_errors = Counter("mlops_log_ship_errors", "Tries to ship that failed.", registry=self.registry)
        self.waiting = Gauge(
            "mlops_log_segments_waiting",
            "Sealed segments that the warehouse does not have yet.",
            registry=self.registry,
            multiprocess_mode="mostrecent",
        )
        self.ship_failed = Gauge(
            "mlops_log_ship_last_error_timestamp_seconds",
            "When a try to ship failed last; 0 for never.",
            registry=self.registry,
            multiprocess_mode="max",
        )
        # `mostrecent` matters to several workers only: the newest value is the service's
        self.model_version = Gauge(
            "mlops_model_version",
            "Version that is served.",
            registry=self.registry,
            multiprocess_mode="mostrecent",
        )
        self.registry_ok = Gauge(
            "mlops_registry_ok",
            "Whether the registry answered the last look.",
            registry=self.registry,
            multiprocess_mode="mostrecent",
        )

    def count_shipping(self, look: Look) -> None:
        """Count what came of a look of the shipping thread."""
        self.shipped.inc(look.records)
        self.ship_errors.inc(look.errors)
        if look.errors:
            self.ship_failed.set_to_current_time()

    def text(self) -> bytes:
        """The figures in Prometheus' text format."""
        if not self._several:
            return generate_latest(self.registry)
        every = CollectorRegistry()
        MultiProcessCollector(every)
        return generate_latest(every)


class Measured:
    """ASGI middleware that counts requests and their seconds by route."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            # routes only: a path that somebody makes up must not become a series
            path = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(scope["method"], path, str(status)).inc()
            self._metrics.seconds.labels(path).observe(time.perf_counter() - begun)
