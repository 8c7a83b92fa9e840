"""OpenAPI document of the API, and the page `/docs` made from it.

The document lists the problems of each operation. The page needs no script and loads nothing from elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse

from dupq.service.pages.rendering import render
from dupq.service.problems import MEDIA_TYPE

DESCRIPTION = """\
Find duplicate questions, with calibrated probabilities.

Send the token of `dupq token create` as `Authorization: Bearer dupq_...`. Each scored pair has its probability, the
decision, the threshold with its guarantee, the base rate and the fingerprint of the model. An error is a problem
(RFC 9457, `application/problem+json`) with a hint and the id of its request, which is also in the header
`X-Request-Id`. After a 429 or 503, wait for the seconds in `Retry-After`.
"""
TAGS = [
    {"name": "scoring", "description": "Score, explain and flag questions; nothing is stored."},
    {"name": "questions", "description": "Store and remove questions."},
    {"name": "review", "description": "The review queue, verdicts and their history."},
    {"name": "groups", "description": "Duplicate groups."},
    {"name": "calibration", "description": "Reports on verdicts, and new calibrations."},
    {"name": "webhooks", "description": "Events of forums."},
    {"name": "compatible", "description": "Shapes of text-embeddings-inference and vLLM, for existing clients."},
    {"name": "operations", "description": "Health, readiness and metrics."},
]
PROBLEM = {
    "title": "Problem",
    "description": "An error (RFC 9457).",
    "type": "object",
    "required": ["type", "title", "status", "detail", "request_id"],
    "properties": {
        "type": {"type": "string", "description": "Always about:blank: the status is the type."},
        "title": {"type": "string", "description": "Name of the status."},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "The problem of this request."},
        "hint": {"type": "string", "description": "What the client can do next."},
        "request_id": {"type": ["string", "null"], "description": "Id of the request, which is also in the log."},
    },
    "example": {
        "type": "about:blank",
        "title": "Unprocessable Content",
        "status": 422,
        "detail": "the text is blank",
        "hint": "give a question or drop the row",
        "request_id": "5c3f0c6e0d5a4d0f9d3a1b2c3d4e5f60",
    },
}
PROBLEMS = {
    "400": "The request cannot be read.",
    "401": "A valid token is needed.",
    "403": "The role of the token may not do this.",
    "413": "The body is too large.",
    "422": "A value is unfit.",
    "429": "Too many requests: wait for the seconds in Retry-After.",
    "503": "The service cannot answer now: wait for the seconds in Retry-After.",
}
"""Status -> description of each problem that any operation can answer; others are described by their routes."""
PUBLIC = {"/healthz": [], "/readyz": ["503"], "/metrics": ["401", "403", "429", "503"]}
"""Path of an operation without a token, at least on loopback -> the statuses of its problems."""
METHODS = ("get", "put", "post", "delete", "patch")

router = APIRouter(include_in_schema=False)


def describe(app: FastAPI) -> None:
    """Add the OpenAPI document and its page to an application.

    The document is made on the first use.
    """

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _with_problems(
                get_openapi(
                    title="dupq",
                    version=app.version,
                    summary="Find duplicate questions",
                    description=DESCRIPTION,
                    routes=app.routes,
                    tags=app.openapi_tags,
                )
            )
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]
    app.include_router(router)


@router.get("/docs")
def docs(request: Request) -> HTMLResponse:
    """Return the page of the API."""
    document = request.app.openapi()
    return render(request, "apidocs.html", None, document=document, sections=list(_sections(document)))


def _with_problems(document: dict[str, Any]) -> dict[str, Any]:
    """Add the problems to each operation that does not describe them itself."""
    components = document.setdefault("components", {}).setdefault("schemas", {})
    components["Problem"] = PROBLEM
    for path, _, operation in _operations(document):
        responses = operation["responses"]
        for status in _statuses(path, operation):
            if "HTTPValidationError" in json.dumps(responses.get(status, "HTTPValidationError")):
                schema = {"$ref": "#/components/schemas/Problem"}
                responses[status] = {"description": PROBLEMS[status], "content": {MEDIA_TYPE: {"schema": schema}}}
        operation["responses"] = dict(sorted(responses.items()))
    for unused in ("HTTPValidationError", "ValidationError"):
        components.pop(unused, None)
    return document


def _statuses(path: str, operation: dict[str, Any]) -> list[str]:
    """Return the statuses of the problems that an operation shares with others."""
    if path in PUBLIC:
        return PUBLIC[path]
    if "compatible" in operation.get("tags", ()):
        return []  # its errors have another shape
    found = ["401", "403", "429", "503"]
    if "requestBody" in operation:
        found += ["400", "413", "422"]
    elif "parameters" in operation:
        found += ["422"]
    return found


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield path, method and description of each operation."""
    for path, methods in document.get("paths", {}).items():
        for method in METHODS:
            if method in methods:
                yield path, method, methods[method]


def _sections(document: dict[str, Any]) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Yield each tag with the operations below it."""
    rows: dict[str, list[dict[str, Any]]] = {tag["name"]: [] for tag in document.get("tags", [])}
    for path, method, operation in _operations(document):
        body = operation.get("requestBody", {}).get("content", {})
        name = operation.get("tags", ["other"])[0]
        rows.setdefault(name, []).append(
            {
                "id": f"{method}{path}".replace("/", "-").replace("{", "").replace("}", ""),
                "path": path,
                "method": method.upper(),
                "summary": operation.get("summary", ""),
                "description": operation.get("description", ""),
                "parameters": operation.get("parameters", []),
                "body": [(kind, _example(document, content)) for kind, content in body.items()],
                "responses": operation["responses"],
            }
        )
    described = {tag["name"]: tag for tag in document.get("tags", [])}
    for name, found in rows.items():
        if found:
            yield described.get(name, {"name": name}), found


def _example(document: dict[str, Any], content: dict[str, Any]) -> str:
    """Return an example of a body as JSON, or its fields."""
    if "example" in content:
        return _json(content["example"])
    if content.get("examples"):
        return _json(next(iter(content["examples"].values())).get("value"))
    schema = content.get("schema", {})
    name = schema.get("$ref", "").rpartition("/")[2]
    schema = document["components"]["schemas"].get(name, schema)
    if schema.get("examples"):
        return _json(schema["examples"][0])
    if "example" in schema:
        return _json(schema["example"])
    return "\n".join(
        f"{field}{'' if field in schema.get('required', ()) else ' (optional)'}: {value.get('description', '')}"
        for field, value in schema.get("properties", {}).items()
    )


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)
