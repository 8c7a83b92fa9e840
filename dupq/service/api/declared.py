"""Errors that the routes of the API declare in their OpenAPI."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from dupq.service.problems import MEDIA_TYPE

PROBLEM: dict[str, Any] = {
    "type": "object",
    "title": "Problem",
    "description": "RFC 9457",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "The problem of this request"},
        "hint": {"type": "string", "description": "The next step"},
        "request_id": {"type": "string"},
        "errors": {
            "type": "array",
            "description": "Each field or row that is invalid",
            "items": {
                "type": "object",
                "required": ["at", "message"],
                "properties": {"at": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}
ALWAYS = {
    400: "The body is no JSON.",
    401: "There is no valid token.",
    403: "The role of the token may not do this.",
    413: "The body is too large.",
    422: "A value is invalid.",
    429: "Too many requests; try again after Retry-After seconds.",
    503: "The model or the store cannot answer.",
}
"""Status -> meaning, for every route."""


def errors(**further: str) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route.

    Args:
        further: Statuses of this route, each as s404="meaning".
    """
    meanings = ALWAYS | {int(name.removeprefix("s")): meaning for name, meaning in further.items()}
    return {
        status: {
            "description": meaning or HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": PROBLEM}},
        }
        for status, meaning in sorted(meanings.items())
    }
