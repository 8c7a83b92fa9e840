"""Webhooks of other forums: one JSON object for each question.

The settings name the paths of its fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dupq.data.dates import parse_date
from dupq.service.problems import ProblemError
from dupq.service.webhooks.posts import Change, Ignored

if TYPE_CHECKING:
    from dupq.service.settings import ServiceSettings

SIGNATURE = "x-dupq-signature-256"
OTHER_SIGNATURE = "x-hub-signature-256"
FIELDS = ("id", "text", "title", "body", "tags", "url", "created", "version", "deleted", "event")
DELETED_WORDS = ("deleted", "destroyed", "removed", "delete", "destroy", "remove")
"""Last word of an event that deletes, as in "post.deleted" or "question_removed"."""


def is_ping(headers: Mapping[str, str]) -> bool:
    """Return True for the test of `dupq webhook test generic`."""
    return headers.get("x-dupq-event") == "ping"


def change_of(headers: Mapping[str, str], body: Mapping[str, Any], settings: ServiceSettings) -> Change:
    """Return what an event changes.

    It raises as `dupq.service.webhooks.discourse.change_of`.
    """
    paths = settings.generic_fields or {name: name for name in FIELDS}
    found = {name: _at(body, path) for name, path in paths.items()}
    id_ = found.get("id")
    if isinstance(id_, bool) or not isinstance(id_, (int, str)) or id_ == "":
        raise ProblemError(
            422,
            f"the id ({paths.get('id', 'no path')}) must be a number or a text, got {id_!r:.60}",
            hint="set its path: generic_fields = {id = 'post.id', title = 'post.title'}",
        )
    delivery = headers.get("x-dupq-delivery") or None
    if delivery is not None and (len(delivery) > 100 or not delivery.isprintable()):
        raise ProblemError(400, "x-dupq-delivery must be a short name", hint="leave it out, or send a UUID")
    version = found.get("version")
    order = None if version is None else (_version(version, str(paths["version"])),)
    if _is_deleted(found.get("deleted")) or _deletes(found.get("event")):
        return Change(id_, {}, order, delivery=delivery, deleted=True)
    fields: dict[str, Any] = {
        name: found[name] for name in ("text", "title", "body", "tags", "url", "created") if name in found
    }
    if fields.get("text") is None:
        fields.pop("text", None)
        if fields.get("title") is None:
            raise ProblemError(422, "the question has neither text nor title", hint="check the paths generic_fields")
    # Such forums have no event of a recovery: a newer version of a deleted question brings it back.
    return Change(id_, fields, order, delivery=delivery, deleted=False)


def _at(body: Any, path: str) -> Any:
    """Return the value at a dotted path, or None; a number is a place in a list."""
    for step in path.split("."):
        if isinstance(body, Mapping):
            body = body.get(step)
        elif isinstance(body, list) and step.isascii() and step.isdigit() and int(step[:9]) < len(body):
            body = body[int(step[:9])]
        else:
            return None
    return body


def _version(value: object, path: str) -> float:
    """Return a version, a number or a date, as a number.

    Raises:
        ProblemError: It is neither a number nor a text.
        InputError: The text is no date.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300:
        return float(value)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 16:
        return float(value)
    if isinstance(value, str) and (date := parse_date(value, location=f"version ({path})")) is not None:
        return date
    raise ProblemError(
        422, f"the version ({path}) must be a number or a date, got {value!r:.60}", hint="check generic_fields"
    )


def _is_deleted(value: object) -> bool:
    """Return True if the value of the field `deleted` means a deletion.

    It does for True, a number that is not 0, and a text such as "true" or the date of the deletion.
    """
    if isinstance(value, str):
        return value.strip().lower() not in ("", "0", "false", "no", "none", "null")
    return bool(value)


def _deletes(event: object) -> bool:
    if event is not None and not isinstance(event, str):
        raise ProblemError(422, f"the event must be a text, got {event!r:.60}", hint="check generic_fields")
    if event == "ping":
        raise Ignored("it is a test")
    return event is not None and event.strip().lower().endswith(DELETED_WORDS)
