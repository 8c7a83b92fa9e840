"""Outgoing webhooks: signed events for the addresses that the settings name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from dupq.service.state import Service

Event = Literal["flagged", "verdict", "merged"]


def emit(service: Service, event: Event, key: str, data: Mapping[str, Any]) -> None:
    """Store one job for each address that gets events; an event with the same key is sent once.

    Args:
        service: The service.
        event: Kind of the event.
        key: Unique name of the event.
        data: What JSON can hold.
    """
    for number, _ in enumerate(service.settings.webhook_urls):
        service.jobs.add("deliver", f"deliver:{number}:{key}", {"event": event, "key": key, "data": dict(data)})
