"""Counters, histograms and gauges of a service, in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from dupq.index.stores.sql import UNANSWERED

if TYPE_CHECKING:
    from dupq.service.state import Service

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """Metrics of one service, in a registry of their own.

    Attributes:
        requests, seconds: Of each route.
        batch_size: Pairs or texts of each call of the model.
        jobs: Jobs that have ended, by kind and outcome.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "dupq_requests", "Requests by route and status", ("route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "dupq_request_seconds", "Seconds of a request", ("route",), buckets=SECONDS, registry=self.registry
        )
        self.batch_size = Histogram(
            "dupq_batch_size", "Pairs or texts of a call of the model", buckets=SIZES, registry=self.registry
        )
        self.jobs = Counter("dupq_jobs_ended", "Jobs by kind and outcome", ("kind", "outcome"), registry=self.registry)
        ProcessCollector(registry=self.registry)

    def count(self, route: str, status: int, seconds: float) -> None:
        """Count one request; a status of 0 is one without an answer."""
        self.requests.labels(route, str(status or "none")).inc()
        self.seconds.labels(route).observe(seconds)

    def watch(self, service: Service) -> None:
        """Show the state of a service beside its counts."""
        self.registry.register(_State(service))

    def text(self) -> bytes:
        """Return all values."""
        return generate_latest(self.registry)


class _State(Collector):
    """Gauges that are read from a service when they are asked for."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def collect(self) -> Iterator[GaugeMetricFamily]:
        executor = self.service.executor
        yield GaugeMetricFamily("dupq_executor_waiting", "Pairs and texts that wait for the model", executor.waiting)
        yield GaugeMetricFamily("dupq_executor_units", "Units of other work that wait for the model", executor.units)
        with self.service.store.reading() as view:
            questions, queue = len(view), view.session.run(f"SELECT count(*) FROM decisions WHERE {UNANSWERED}")
            states = view.session.run("SELECT state, count(*) FROM service_jobs GROUP BY state ORDER BY state")
        yield GaugeMetricFamily("dupq_questions", "Stored questions", questions)
        yield GaugeMetricFamily("dupq_queue_pairs", "Pairs without a verdict", queue[0][0])
        jobs = GaugeMetricFamily("dupq_jobs", "Jobs by state", labels=("state",))
        for state, count in states:
            jobs.add_metric((str(state),), count)
        yield jobs

    def describe(self) -> list[GaugeMetricFamily]:
        """Return no names, so that registering reads no store."""
        return []
