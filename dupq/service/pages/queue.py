"""Run of a moderator through pairs: next pair, past verdicts and progress.

Places of a run. Place 0 is the next pair, 1 the one after it, and so on; -1 is the pair of the last verdict of the
moderator that stands, -2 the one before it. A verdict takes its pair out of the queue, so the next pair then has the
same place.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import islice

from dupq.index.review import ReviewItem, answered_by, contested_items, review_items
from dupq.index.stores.base import StoredVerdict
from dupq.index.stores.sql import ON_STORED, STANDING, View
from dupq.service.pages.filters import Filters
from dupq.service.state import Service

AUDIT_SHARE = 0.2
MAX_PLACE = 10_000
"""Last place of a run, and last pair of a list."""
MAX_LOOKED = 2000
"""Pairs that are looked through for filters that the database cannot apply."""
SUGGESTED = 300
"""Questions whose categories and tags are suggested."""


SAME_PAIR = "x.slot_one=v.slot_one AND x.slot_other=v.slot_other"
CONTESTED = (
    "SELECT count(*) FROM (SELECT v.slot_one, v.slot_other FROM verdicts v"
    f" WHERE EXISTS (SELECT 1 FROM verdicts x WHERE {SAME_PAIR} AND x.moderator<>v.moderator)"
    f" AND {STANDING} AND {ON_STORED} AND v.answer<>'skip' AND NOT EXISTS"
    f" (SELECT 1 FROM verdicts x WHERE {SAME_PAIR} AND x.moderator=v.moderator AND x.number>v.number"
    " AND x.answer<>'undo' AND NOT EXISTS (SELECT 1 FROM verdicts y WHERE y.undoes=x.number))"
    " GROUP BY v.slot_one, v.slot_other HAVING count(DISTINCT v.answer)>1) p"
)
"""Number of pairs on which the last verdicts of two moderators differ."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of the review.

    Attributes:
        left: Number of pairs without a verdict.
        judged: Number of judged pairs.
        mine, all: Verdicts of today (UTC) that stand, of this moderator and of all.
        audits: Verdicts on audit pairs that stand.
        contested: Number of contested pairs.
    """

    left: int
    judged: int
    mine: int
    all: int
    audits: int
    contested: int


def pairs_at(
    service: Service, filters: Filters, by: str, start: int, count: int, *, run: bool = False
) -> list[ReviewItem]:
    """Return pairs of a run, or of a list.

    Args:
        service: The service.
        filters: What pairs to show.
        by: Name of the moderator.
        start: First place, 0 or more.
        count: Maximum number of pairs.
        run: Leave out contested pairs on which the moderator has a verdict.
    """
    with service.store.reading() as view:
        return list(islice(_pairs(view, filters, by, start + count, run), start, start + count))


def bulk_pairs(service: Service, bound: float, count: int) -> list[ReviewItem]:
    """Return queued pairs without a verdict, the most probable first.

    Their probability is at least `bound`. None is drawn for the audit.
    """
    with service.store.reading() as view:
        found = review_items(view, count, 0.0, "probability>=?", (bound,))
    return sorted(found, key=lambda item: -(item.decision.probability if item.decision else 0))


def _pairs(view: View, filters: Filters, by: str, needed: int, run: bool) -> Iterator[ReviewItem]:
    needed = min(needed, MAX_PLACE)
    if filters.show == "contested":
        items = contested_items(view, MAX_LOOKED, by if run else None, None, (0.0, 1.0))
        yield from filter(filters.matches, items)
        return
    if filters.show == "mine":
        yield from filter(filters.matches, (item for _, item in answered_by(view, by)))
        return
    where, values = filters.condition()
    exact = not (filters.category or filters.tag or filters.text or filters.conflict)
    limit = needed
    while True:
        found = review_items(view, limit, AUDIT_SHARE, where, values)
        kept = found if exact else [item for item in found if filters.matches(item)]
        if len(kept) >= needed or len(found) < limit or limit >= MAX_LOOKED:
            yield from kept
            return
        limit = min(max(4 * limit, 100), MAX_LOOKED)


def place_after(filters: Filters, place: int) -> int:
    """Return the place of the next pair after a verdict on the pair at a place."""
    return 0 if place < 0 else place + (filters.show == "mine")


def past_verdict(service: Service, by: str, back: int) -> StoredVerdict | None:
    """Return the `back`-th last verdict of a moderator that stands, or None.

    `back` is 1 for the last one. Only verdicts on present texts count.
    """
    with service.store.reading() as view:
        rows = view.verdicts_where(f"{STANDING} AND {ON_STORED} AND v.moderator=?", (by,), min(back, MAX_LOOKED))
    return rows[back - 1] if len(rows) >= back else None


def verdict_row(service: Service, number: int) -> StoredVerdict | None:
    """Return a row of the history, or None."""
    with service.store.reading() as view:
        rows = view.verdicts_where("v.number=?", (number,))
    return rows[0] if rows else None


def standing_row(service: Service, number: int) -> StoredVerdict | None:
    """Return a verdict that was not taken back, or None."""
    with service.store.reading() as view:
        rows = view.verdicts_where(f"v.number=? AND {STANDING}", (number,))
    return rows[0] if rows else None


def progress(service: Service, by: str) -> Progress:
    """Return how far the review has got."""
    today = datetime.now(timezone.utc).date().isoformat()
    with service.store.reading() as view:
        run = view.session.run
        judged = view.count("decisions")
        pairs = f"SELECT DISTINCT v.slot_one, v.slot_other FROM verdicts v WHERE {STANDING}"
        done = run(
            f"SELECT count(*) FROM ({pairs}) p WHERE EXISTS"
            " (SELECT 1 FROM decisions d WHERE d.slot=p.slot_one AND d.other=p.slot_other)"
        )[0][0]
        given = dict(
            run(f"SELECT moderator, count(*) FROM verdicts v WHERE {STANDING} AND at>=? GROUP BY moderator", (today,))
        )
        audits = run(f"SELECT count(*) FROM verdicts v WHERE {STANDING} AND chosen='audit'")[0][0]
        contested = run(CONTESTED)[0][0]
    return Progress(judged - done, judged, given.get(by, 0), sum(given.values()), audits, contested)


def categories_and_tags(service: Service) -> tuple[list[str], list[str]]:
    """Return the categories and tags of the newest questions.

    The filters suggest them.
    """
    categories: set[str] = set()
    tags: set[str] = set()
    with service.store.reading() as view:
        rows = view.session.run(
            "SELECT details FROM questions WHERE details IS NOT NULL ORDER BY slot DESC LIMIT ?", (SUGGESTED,)
        )
    for (text,) in rows:
        details = json.loads(text)
        categories |= {details["category"]} if isinstance(details.get("category"), str) else set()
        found = details.get("tags")
        tags |= {tag for tag in found if isinstance(tag, str)} if isinstance(found, list) else set()
    return sorted(categories)[:SUGGESTED], sorted(tags)[:SUGGESTED]
