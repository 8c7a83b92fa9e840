"""Health, readiness and metrics."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Depends, Request, Response
from fastapi.security import HTTPAuthorizationCredentials
from fastapi.security.utils import get_authorization_scheme_param

from dupq.errors import DupqError
from dupq.service.access import require
from dupq.service.problems import ProblemError
from dupq.service.state import Service, service_of

CHECK_SECONDS = 5.0
"""Longest time that the model and the store get to answer `/readyz`."""
FRESH_SECONDS = 1.0
"""Age up to which `/readyz` gives the same answer again, so that asking for it costs little."""

router = APIRouter(tags=["operations"])

_check_reader = require("read")


async def reader_beyond_loopback(request: Request) -> None:
    """Require a token of a reader if other machines can reach the service."""
    if not service_of(request).settings.on_loopback:
        scheme, secret = get_authorization_scheme_param(request.headers.get("Authorization"))
        bearer = HTTPAuthorizationCredentials(scheme=scheme, credentials=secret) if scheme.lower() == "bearer" else None
        await _check_reader(request, bearer)


@router.get("/healthz")
def healthz() -> dict[str, str]:
    """Answer while the process runs; no token is needed."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(service: Annotated[Service, Depends(service_of)]) -> dict[str, str]:
    """Answer 200 if the service is ready, else 503.

    It is ready if the model scores a pair and the store can be read. No token is needed.
    """
    readiness = service.readiness
    async with readiness.lock:
        if not service.stopping and time.monotonic() - readiness.at > FRESH_SECONDS:
            readiness.failures = await _failures(service)
            readiness.at = time.monotonic()
    failures = {"service": "it is stopping"} if service.stopping else readiness.failures
    if failures:
        names = ", ".join(failures)
        raise ProblemError(503, f"not ready: {names}", headers={"Retry-After": "5"}, failures=failures)
    return {"status": "ready", "model": "ok", "store": "ok"}


@router.get(
    "/metrics",
    dependencies=[Depends(reader_beyond_loopback)],
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}},
)
def metrics(service: Annotated[Service, Depends(service_of)]) -> Response:
    """Return counters, histograms and gauges for Prometheus.

    No token is needed where the service listens on loopback; elsewhere the role reader is.
    """
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _failures(service: Service) -> dict[str, str]:
    """Return the parts that do not answer -> the reason."""
    asked: dict[str, Any] = {
        "model": service.executor.check(CHECK_SECONDS),
        "store": asyncio.wait_for(run_sync(_read, service, abandon_on_cancel=True), CHECK_SECONDS),
    }
    answers = await asyncio.gather(*asked.values(), return_exceptions=True)
    return {
        name: _reason(answer) for name, answer in zip(asked, answers, strict=True) if isinstance(answer, BaseException)
    }


def _read(service: Service) -> None:
    with service.store.reading() as view:
        view.session.run("SELECT count(*) FROM service_tokens")


def _reason(error: BaseException) -> str:
    if isinstance(error, asyncio.TimeoutError):
        return f"no answer within {CHECK_SECONDS:g} s"
    return error.message if isinstance(error, DupqError) else type(error).__name__
