"""The HTTP application: the API, incoming webhooks and the review page over one index."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

from dupq.index.question_index import QuestionIndex
from dupq.index.stores import open_store
from dupq.pipeline import DuplicatePipeline
from dupq.service.access import Access
from dupq.service.api import ROUTERS as API_ROUTERS
from dupq.service.executor import ModelExecutor
from dupq.service.jobs import Jobs
from dupq.service.metrics import Metrics
from dupq.service.middleware import BodyLimit, RequestRecords, SecurityHeaders
from dupq.service.pages import ROUTERS as PAGE_ROUTERS
from dupq.service.pages.errors import error_page
from dupq.service.problems import add_handlers
from dupq.service.sessions import add_login_handler
from dupq.service.settings import ServiceSettings
from dupq.service.state import Service
from dupq.service.tables import prepare_tables
from dupq.service.webhooks import ROUTERS as WEBHOOK_ROUTERS
from dupq.version import __version__

STATIC = Path(__file__).parent / "static"


def open_service(settings: ServiceSettings, pipeline: DuplicatePipeline | None = None) -> Service:
    """Open the parts of a service; nothing runs yet but the thread of the model.

    Args:
        settings: The settings.
        pipeline: The pipeline; None: the one that the settings name.
    """
    pipeline = pipeline or DuplicatePipeline.from_pretrained(settings.model)
    index = QuestionIndex(settings.db, pipeline)
    store = open_store(settings.db)
    prepare_tables(store)
    return Service(
        settings=settings,
        pipeline=pipeline,
        index=index,
        store=store,
        executor=ModelExecutor(pipeline, index, batch=settings.batch, max_waiting=settings.max_waiting),
        access=Access(store, session_hours=settings.session_hours, rate=settings.rate_limit, burst=settings.rate_burst),
        jobs=Jobs(store),
        metrics=Metrics(),
    )


def create_app(service: Service) -> FastAPI:
    """Return the application of a service, which it closes when it stops."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.jobs.start(service.settings.workers)
        yield
        service.stopping = True
        service.jobs.stop(service.settings.stop_seconds)
        service.executor.close(service.settings.stop_seconds)
        service.index.close()
        service.store.close()

    app = FastAPI(title="dupq", version=__version__, lifespan=lifespan)
    app.state.service = service
    add_handlers(app, {}, error_page)
    add_login_handler(app)
    # The last one that is added is the outermost.
    app.add_middleware(BodyLimit, max_bytes=service.settings.max_body_bytes)
    app.add_middleware(RequestRecords, metrics=service.metrics)
    app.add_middleware(SecurityHeaders)
    for router in (*API_ROUTERS, *WEBHOOK_ROUTERS, *PAGE_ROUTERS):
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    return app
