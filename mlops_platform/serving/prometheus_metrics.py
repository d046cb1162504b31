"""The metrics that Prometheus scrapes: requests, predictions, the registry, and the uploads of the event log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

if TYPE_CHECKING:
    from mlops_platform.serving.log_uploader import UploadResult

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Metrics:
    """The metrics of one worker; with several, a scrape sums them over all (prometheus-client's files)."""

    def __init__(self, *, several_workers: bool) -> None:
        """Create the metrics.

        Args:
            several_workers: Workers share metrics through PROMETHEUS_MULTIPROC_DIR, which must be set before this
                module is imported.
        """
        self._several_workers = several_workers
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
        self.feedback = Counter("mlops_feedback", "Labels received as feedback.", registry=self.registry)
        self.unknown_tags = Counter(
            "mlops_feedback_unknown_tags",
            "Feedback labels whose tag the served model does not know.",
            registry=self.registry,
        )
        self.log_errors = Counter(
            "mlops_log_errors", "Requests refused because the event log could not be written.", registry=self.registry
        )
        self.shipped = Counter("mlops_log_shipped", "Events uploaded to the warehouse.", registry=self.registry)
        self.ship_errors = Counter("mlops_log_ship_errors", "Uploads that failed.", registry=self.registry)
        self.waiting = Gauge(
            "mlops_log_events_waiting",
            "Events that are not uploaded yet.",
            registry=self.registry,
            multiprocess_mode="mostrecent",
        )
        self.ship_failed = Gauge(
            "mlops_log_ship_last_error_timestamp_seconds",
            "When an upload failed last; 0 for never.",
            registry=self.registry,
            multiprocess_mode="max",
        )
        # `mostrecent` matters only with several workers: the newest value is the service's
        self.model_version = Gauge(
            "mlops_model_version",
            "Model version that is served.",
            registry=self.registry,
            multiprocess_mode="mostrecent",
        )
        self.registry_ok = Gauge(
            "mlops_registry_ok",
            "Whether the last poll of the registry succeeded.",
            registry=self.registry,
            multiprocess_mode="mostrecent",
        )

    def count_upload(self, result: UploadResult) -> None:
        """Count the result of an upload."""
        self.shipped.inc(result.events)
        self.ship_errors.inc(result.errors)
        if result.errors:
            self.ship_failed.set_to_current_time()

    def text(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        if not self._several_workers:
            return generate_latest(self.registry)
        merged = CollectorRegistry()
        MultiProcessCollector(merged)
        return generate_latest(merged)
