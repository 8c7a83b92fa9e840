"""Errors of single routes in the OpenAPI document.

`dupq.service.apidocs` adds those that every route can answer with.
"""

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
