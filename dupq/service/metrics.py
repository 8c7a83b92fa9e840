"""What `/metrics` shows, in the text format of Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest


class Metrics:
    """Counters and histograms of one service, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "dupq_requests", "Requests by route and status", ("route", "status"), registry=self.registry
        )
        self.seconds = Histogram("dupq_request_seconds", "Seconds of a request", ("route",), registry=self.registry)
        self.jobs = Counter("dupq_jobs", "Jobs by kind and outcome", ("kind", "outcome"), registry=self.registry)

    def count(self, route: str, status: int, seconds: float) -> None:
        """Count one request."""
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """Return all values."""
        return generate_latest(self.registry)
