"""Parts of a running service, which its routes share."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.requests import HTTPConnection

if TYPE_CHECKING:
    from dupq.index.question_index import QuestionIndex
    from dupq.index.stores.base import Store
    from dupq.pipeline import DuplicatePipeline
    from dupq.service.access import Access
    from dupq.service.executor import ModelExecutor
    from dupq.service.jobs import Jobs
    from dupq.service.metrics import Metrics
    from dupq.service.settings import ServiceSettings


@dataclass(slots=True)
class Readiness:
    """Last answer of `/readyz`.

    Attributes:
        lock: Held by the request that asks model and store; others wait for its answer.
        at: Monotonic time of the answer.
        failures: Part that did not answer -> the reason.
    """

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    at: float = float("-inf")
    failures: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Service:
    """Parts of one running service; all are safe to share between threads.

    Attributes:
        settings: The settings.
        pipeline: The pipeline.
        index: The index, opened with the pipeline.
        store: A second connection to the database of the index, for the tables of the service.
        executor: The one thread that runs the model.
        access: Tokens, sessions and rate limits.
        jobs: The table of jobs, and the threads that run them.
        metrics: What `/metrics` shows.
        readiness: Last answer of `/readyz`.
        stopping: True once the service was asked to stop; `/readyz` fails then.
    """

    settings: ServiceSettings
    pipeline: DuplicatePipeline
    index: QuestionIndex
    store: Store
    executor: ModelExecutor
    access: Access
    jobs: Jobs
    metrics: Metrics
    readiness: Readiness = field(default_factory=Readiness)
    stopping: bool = False

    def close(self) -> None:
        """End jobs and the model within `stop_seconds`, and close the stores."""
        self.stopping = True
        ends = time.monotonic() + self.settings.stop_seconds
        self.jobs.stop(self.settings.stop_seconds)
        if self.executor.close(max(0.0, ends - time.monotonic())):
            self.index.close()
        self.store.close()


def service_of(connection: HTTPConnection) -> Service:
    """Return the service that answers a request.

    As a dependency: `Annotated[Service, Depends(service_of)]`.
    """
    service: Service = connection.app.state.service
    return service
