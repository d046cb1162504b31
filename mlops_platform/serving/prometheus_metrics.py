"""The metrics that Prometheus scrapes: requests, predictions, the registry, and the uploads of the event log."""

from __future__ import annotations

from functools import partial
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
        self.registry = CollectorRegistry()
        self._several_workers = several_workers
        counter = partial(Counter, registry=self.registry)
        # with several workers, the newest value is the service's
        gauge = partial(Gauge, registry=self.registry, multiprocess_mode="mostrecent")
        self.requests = counter("mlops_requests", "HTTP requests.", ("method", "path", "status"))
        self.seconds = Histogram(
            "mlops_request_seconds", "Seconds to answer.", ("path",), buckets=_SECONDS, registry=self.registry
        )
        self.predictions = counter("mlops_predictions", "Texts predicted.", ("tag", "model_version"))
        self.feedback = counter("mlops_feedback", "Labels received as feedback.")
        self.unknown_tags = counter("mlops_feedback_unknown_tags", "Feedback labels whose tag the model does not know.")
        self.log_errors = counter("mlops_log_errors", "Requests refused as the event log could not be written.")
        self.shipped = counter("mlops_log_shipped", "Events uploaded to the warehouse.")
        self.ship_errors = counter("mlops_log_ship_errors", "Uploads that failed.")
        self.waiting = gauge("mlops_log_events_waiting", "Events that are not uploaded yet.")
        self.ship_failed = gauge(
            "mlops_log_ship_last_error_timestamp_seconds",
            "When an upload failed last; 0 for never.",
            multiprocess_mode="max",
        )
        self.model_version = gauge("mlops_model_version", "Model version that is served.")
        self.registry_ok = gauge("mlops_registry_ok", "Whether the last poll of the registry succeeded.")

    def count_upload(self, result: UploadResult) -> None:
        """Count the result of an upload."""
        self.shipped.inc(result.events)
        self.ship_errors.inc(result.errors)
        if result.errors:
            self.ship_failed.set_to_current_time()

    def text(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        registry = self.registry
        if self._several_workers:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)
        return generate_latest(registry)
