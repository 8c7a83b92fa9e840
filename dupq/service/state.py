"""Parts of a running service, which its routes share."""

from __future__ import annotations

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
    stopping: bool = field(default=False)


def service_of(connection: HTTPConnection) -> Service:
    """Return the service that answers a request; as a dependency: `Annotated[Service, Depends(service_of)]`."""
    service: Service = connection.app.state.service
    return service
