"""Verdicts of two moderators who mostly agree with the probabilities."""

from __future__ import annotations

from dupq.service.state import Service


def judge(service: Service, count: int, *, wrong_every: int = 9) -> None:
    """Answer so many pairs in the order of the queue."""
    for place, item in enumerate(service.index.review_queue(count)):
        likely = item.decision is not None and item.decision.probability > 0.65
        right = place % wrong_every != 4
        service.index.verdict(
            item.question.id,
            item.other.id,
            "skip" if place % 29 == 28 else "duplicate" if likely == right else "distinct",
            by=("Ann", "Björn")[place % 2],
            chosen=item.chosen,
            sampled=item.sampled,
            note="Same question, other words." if place % 11 == 0 else "",
        )
