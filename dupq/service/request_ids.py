"""Ids of requests: in the answer, in its problem, and in each line of the log."""

from __future__ import annotations

import re
import uuid
from contextvars import ContextVar

HEADER = "x-request-id"
_SANE = re.compile(r"[A-Za-z0-9._-]{1,64}")

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""Id of the request that is answered; None outside one."""


def accepted_id(given: str | None) -> str:
    """Return the given request id if it is safe to log, else a new one."""
    return given if given and _SANE.fullmatch(given) else uuid.uuid4().hex
