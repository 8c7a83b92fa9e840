"""Pages of the review queue, of contested pairs and of answered pairs.

Answered pairs are those that one moderator has an opinion on.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, get_args

from dupq.data.arguments import MAX_INT, is_number
from dupq.errors import InputError
from dupq.index.review import QueuePosition, ReviewItem, answered_by, contested, is_within, queue_part
from dupq.index.sampling import STRATA
from dupq.index.stores.sql import View

Source = Literal["queue", "contested", "answered"]
"""The queue; the contested pairs, oldest first; or the pairs that a moderator has answered, last one first."""
SOURCES: tuple[Source, ...] = get_args(Source)


@dataclass(frozen=True, slots=True)
class ReviewPage:
    """Pairs to be reviewed, and the place after them.

    Attributes:
        items: The pairs.
        after: Name of the place after them, for the next page; None: there are no more pairs.
    """

    items: Sequence[ReviewItem]
    after: str | None


def read_page(
    view: View,
    source: Source,
    limit: int,
    *,
    after: str | None,
    audit_share: float,
    by: str | None,
    decision: str | None,
    probabilities: tuple[float, float],
) -> ReviewPage:
    """Return a page; see `QuestionIndex.review_page`."""
    if source == "queue":
        low, high = probabilities
        limits = {"decision=?": decision, "probability>=?": low or None, "probability<=?": high if high < 1 else None}
        filters = {condition: value for condition, value in limits.items() if value is not None}
        place = None if after is None else _position(after)
        items, place = queue_part(view, limit, audit_share, " AND ".join(filters), list(filters.values()), place)
        return ReviewPage(items, _name("q", place.turn, place.queue, dict(place.audits)) if items else None)
    number = None if after is None else _number(after)
    found = contested(view, by, number or 0) if source == "contested" else answered_by(view, by or "", number)
    rows = list(islice((row for row in found if is_within(row[1], decision, probabilities)), limit))
    return ReviewPage([item for _, item in rows], _name("n", rows[-1][0]) if len(rows) == limit else None)


def _name(*parts: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


def _parts(after: str, kind: str) -> list[Any]:
    try:
        parts = json.loads(base64.urlsafe_b64decode(after.encode("ascii") + b"=" * (-len(after) % 4)))
    except (ValueError, RecursionError):
        parts = None
    if not isinstance(parts, list) or not parts or parts[0] != kind:
        raise _bad(after)
    return parts[1:]


def _position(after: str) -> QueuePosition:
    parts = _parts(after, "q")
    if len(parts) == 3 and _is_number(parts[0]) and is_number(parts[1]) and isinstance(parts[2], dict):
        turn, queue, audits = parts
        if all(stratum in STRATA and is_number(drawn) for stratum, drawn in audits.items()):
            return QueuePosition(turn, float(queue), {stratum: float(drawn) for stratum, drawn in audits.items()})
    raise _bad(after)


def _number(after: str) -> int:
    parts = _parts(after, "n")
    if len(parts) == 1 and _is_number(parts[0]):
        return int(parts[0])
    raise _bad(after)


def _is_number(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_INT


def _bad(after: str) -> InputError:
    return InputError(f"after must be the place after a page, got {after!r:.60}", hint="start without it")
