"""A forum whose questions are ways of asking, with verdicts of two moderators in the order of the queue."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from dupq.index.review import ReviewItem
from dupq.service.state import Service
from tests.questions import INTENTS, THINGS


def fill(service: Service, things: int = 12) -> None:
    """Add all ways of asking about so many things, posted over the last weeks, and decide them."""
    start = datetime.now(timezone.utc) - timedelta(days=60)
    asked = [
        (f"q{place}-{intent}-{way}", phrase.format(thing=thing))
        for place, thing in enumerate(THINGS[:things])
        for intent, phrases in enumerate(INTENTS)
        for way, phrase in enumerate(phrases)
    ]
    service.index.add(
        [id_ for id_, _ in asked],
        [text for _, text in asked],
        created=[(start + timedelta(hours=1400 * place / len(asked))).isoformat() for place in range(len(asked))],
        details=[{"title": text, "url": f"https://forum.example.org/t/{id_}"} for id_, text in asked],
    )
    service.index.decide()


def are_duplicates(item: ReviewItem) -> bool:
    """True for two ways of asking one thing."""
    return str(item.question.id).rsplit("-", 1)[0] == str(item.other.id).rsplit("-", 1)[0]


def judge(service: Service, count: int, *, wrong_every: int = 0) -> None:
    """Give so many verdicts from the queue; some are wrong, and some are skips."""
    for place, item in enumerate(service.index.review_queue(count)):
        right = are_duplicates(item) != bool(wrong_every and place % wrong_every == 0)
        answer = "skip" if place % 29 == 28 else "duplicate" if right else "distinct"
        service.index.verdict(
            item.question.id,
            item.other.id,
            answer,
            by=("Ann", "Björn")[place % 2],
            chosen=item.chosen,
            sampled=item.sampled,
            note="Same question, other words." if place % 11 == 0 else "",
        )


def spread_over(service: Service, days: int) -> None:
    """Move the dates of the verdicts back, so that they fill so many days, fewer on some."""
    now = datetime.now(timezone.utc)

    def move(transaction: object) -> None:
        run = transaction.session.run  # type: ignore[attr-defined]
        numbers = [row[0] for row in run("SELECT number FROM verdicts ORDER BY number")]
        for place, number in enumerate(numbers):
            share = (place / max(len(numbers), 1)) ** 0.8
            at = now - timedelta(days=int((1 - share) * (days - 1)))
            run("UPDATE verdicts SET at=? WHERE number=?", (at.isoformat(), number))

    service.store.write(move)
