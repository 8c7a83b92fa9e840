"""Routes of incoming webhooks.

An event is checked, compared with what is known, and stored with its job; only then is it answered, with 202. No model
runs meanwhile, so the answer takes milliseconds. What needs no work is answered with 200 and the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse
from pydantic import SecretStr
from starlette.concurrency import run_in_threadpool

from dupq.service.problems import ProblemError
from dupq.service.state import Service, service_of
from dupq.service.webhooks import discourse, generic, github
from dupq.service.webhooks.posts import Change, Ignored, check_change, store_change
from dupq.service.webhooks.signatures import check_signature, json_object

router = APIRouter(prefix="/webhooks", tags=["webhooks"])
ServiceDep = Annotated[Service, Depends(service_of)]
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "A test, or an event that changes no question; the reason is in the answer"},
    202: {"description": "The event is stored, and its job is done soon"},
    400: {"description": "A header or the body is malformed"},
    403: {"description": "The signature is missing or wrong, or no secret is set"},
    422: {"description": "A field of the question cannot be used"},
}
BODY = {"requestBody": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}}


@router.post("/discourse", status_code=202, responses=ANSWERS, openapi_extra=BODY)
async def discourse_webhook(request: Request, service: ServiceDep) -> JSONResponse:
    """Take an event of Discourse, signed in `X-Discourse-Event-Signature`."""
    settings = service.settings
    return await _take(
        request,
        service,
        ("discourse_secret", settings.discourse_secret),
        (discourse.SIGNATURE,),
        discourse.is_ping,
        lambda headers, body: discourse.change_of(headers, body, settings),
    )


@router.post("/github", status_code=202, responses=ANSWERS, openapi_extra=BODY)
async def github_webhook(request: Request, service: ServiceDep) -> JSONResponse:
    """Take an event of GitHub, signed in `X-Hub-Signature-256`."""
    secret = ("github_secret", service.settings.github_secret)
    return await _take(request, service, secret, (github.SIGNATURE,), github.is_ping, github.change_of)


@router.post("/generic", status_code=202, responses=ANSWERS, openapi_extra=BODY)
async def generic_webhook(request: Request, service: ServiceDep) -> JSONResponse:
    """Take a question of another forum.

    The signature is in `X-Dupq-Signature-256` or `X-Hub-Signature-256`.
    """
    settings = service.settings
    return await _take(
        request,
        service,
        ("generic_secret", settings.generic_secret),
        (generic.SIGNATURE, generic.OTHER_SIGNATURE),
        generic.is_ping,
        lambda headers, body: generic.change_of(headers, body, settings),
    )


async def _take(
    request: Request,
    service: Service,
    secret: tuple[str, SecretStr | None],
    signatures: tuple[str, ...],
    is_ping: Callable[[Mapping[str, str]], bool],
    change_of: Callable[[Mapping[str, str], Mapping[str, Any]], Change],
) -> JSONResponse:
    """Check and store one event.

    Args:
        request: The request.
        service: The service.
        secret: Name of its setting, and the secret.
        signatures: Headers that may have the signature, the first that is sent counts.
        is_ping: Returns True for a test, by its headers.
        change_of: Returns the change of an event, by its headers and its JSON.
    """
    headers = dict(request.headers)
    body = await request.body()

    def take() -> JSONResponse:
        name = next((name for name in signatures if name in headers), signatures[0])
        check_signature(secret[1], secret[0], body, headers.get(name), name)
        if is_ping(headers):
            return JSONResponse({"status": "pong"}, 200)
        try:
            change = change_of(headers, json_object(body, headers.get("content-type")))
        except Ignored as reason:
            return JSONResponse({"status": "ignored", "reason": str(reason)}, 200)
        check_change(change, service.settings)
        if not store_change(service.store, change):
            return JSONResponse({"status": "ignored", "reason": "it is known, or older than what is known"}, 200)
        service.jobs.wake()
        return JSONResponse({"status": "stored", "id": change.id}, 202)

    if service.stopping:
        raise ProblemError(503, "the service is stopping", hint="send it again", headers={"Retry-After": "5"})
    return await run_in_threadpool(take)
