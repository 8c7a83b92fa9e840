"""HTTP application: API, incoming webhooks and review page over one index."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from starlette.staticfiles import StaticFiles

from dupq.errors import InputError
from dupq.index.question_index import QuestionIndex
from dupq.index.stores import open_store
from dupq.pipeline import DuplicatePipeline
from dupq.service.access import Access
from dupq.service.api import ROUTERS as API_ROUTERS
from dupq.service.api.compatible import ERROR_SHAPES
from dupq.service.apidocs import TAGS, describe
from dupq.service.executor import ModelExecutor
from dupq.service.jobs import Jobs
from dupq.service.metrics import Metrics
from dupq.service.middleware import BodyLimit, ClientWatch, RequestRecords, SecurityHeaders
from dupq.service.pages import ROUTERS as PAGE_ROUTERS
from dupq.service.pages.errors import error_page
from dupq.service.problems import add_handlers
from dupq.service.sessions import add_login_handler
from dupq.service.settings import ServiceSettings, masked_url
from dupq.service.state import Service
from dupq.service.tables import prepare_tables
from dupq.service.unknown_callers import UnknownCallers
from dupq.service.webhooks import incoming
from dupq.service.work import register
from dupq.version import __version__

STATIC = Path(__file__).parent / "static"


def open_service(settings: ServiceSettings, pipeline: DuplicatePipeline | None = None) -> Service:
    """Open the parts of a service; nothing runs yet but the thread of the model.

    Args:
        settings: The settings.
        pipeline: The pipeline; None: the one that the settings name.

    Raises:
        InputError: The host is beyond loopback, and there is no token; or the index cannot be used.
        ModelFolderError: The pipeline cannot be opened.
        OutputError: The index cannot be reached or written.
    """
    with ExitStack() as opened:
        store = open_store(settings.db)
        opened.callback(store.close)
        prepare_tables(store)
        access = Access(
            store, session_hours=settings.session_hours, rate=settings.rate_limit, burst=settings.rate_burst
        )
        if not settings.on_loopback and not access.has_tokens():
            raise InputError(
                f"without a token the host must be on loopback, got {settings.host}",
                hint=f"create a token first: dupq token create --db {masked_url(settings.db)} --role admin --name NAME",
            )
        pipeline = pipeline or DuplicatePipeline.from_pretrained(settings.model, threads=settings.threads)
        index = QuestionIndex(settings.db, pipeline)
        opened.callback(index.close)
        metrics = Metrics()
        executor = ModelExecutor(
            pipeline,
            index,
            batch=settings.batch,
            max_waiting=settings.max_waiting,
            observe=metrics.batch_size.observe,
        )
        opened.pop_all()
    service = Service(settings, pipeline, index, store, executor, access, Jobs(store), metrics)
    metrics.watch(service)
    register(service)
    return service


def first_token(service: Service) -> str | None:
    """Create a token of an administrator if no token is valid.

    It returns the secret, which is stored nowhere, or None if a token is valid.
    """
    return None if service.access.has_tokens() else service.access.create_token("admin", "admin")


def create_app(service: Service) -> FastAPI:
    """Return the application of a service, which it closes when it stops."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.jobs.start(service.settings.workers)
        yield
        service.stopping = True
        # Not in the thread of the event loop, which a job may still need.
        await asyncio.to_thread(service.close)

    app = FastAPI(
        title="dupq",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_tags=TAGS,
        # None, also where the environment configures OpenTelemetry.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.service = service
    add_handlers(app, ERROR_SHAPES, error_page)
    add_login_handler(app)
    # The last one that is added is the outermost.
    app.add_middleware(ClientWatch)
    app.add_middleware(UnknownCallers, service=service)
    app.add_middleware(BodyLimit, max_bytes=service.settings.max_body_bytes)
    app.add_middleware(RequestRecords, metrics=service.metrics)
    app.add_middleware(SecurityHeaders)
    for router in (*API_ROUTERS, incoming.router, *PAGE_ROUTERS):
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    describe(app)
    return app
