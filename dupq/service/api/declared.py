"""Errors of single routes; those that every route can answer with are added to the OpenAPI document for all."""

from __future__ import annotations

from typing import Any

from dupq.service.problems import MEDIA_TYPE

PROBLEM = {"$ref": "#/components/schemas/Problem"}


def errors(meanings: dict[int, str]) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route.

    Args:
        meanings: Status -> its meaning in this route.
    """
    return {
        status: {"description": meaning, "content": {MEDIA_TYPE: {"schema": PROBLEM}}}
        for status, meaning in meanings.items()
    }
