"""Review queue, sample of reviewed pairs, and estimates from the sample."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

import numpy as np

from dupq.decisions.decider import Decider
from dupq.decisions.thresholds import Policy
from dupq.index.sampling import (
    FLAGGED,
    STRATA,
    Estimate,
    Progressed,
    audited_share,
    estimate_shares,
    turn,
)
from dupq.index.stores.base import StoredDecision, StoredQuestion, StoredVerdict
from dupq.index.stores.sql import ON_STORED, STANDING, View
from dupq.index.verdicts import answer_of, opinions, require_stored
from dupq.types import Id

QUEUE_ORDER, AUDIT_ORDER = "drawn / value", "drawn"
MAX_QUEUE = 1_000_000
"""Most pairs of one call of the queue."""


@dataclass(frozen=True, slots=True)
class ReviewItem:
    """A pair to be reviewed.

    Attributes:
        question, other: The two questions, with their details.
        decision: The stored decision, or None for a contested pair without one.
        chosen: "queue", "audit", or "" for a contested pair.
        sampled: Probability with which the pair is in the sample at this moment, in (0, 1]; None without a decision.
        last: Number of the last row of the pair's history, 0 if there is none: `expected` of the verdict.
        opinions: The last verdict of each moderator; empty in the queue, whose pairs have none.
    """

    question: StoredQuestion
    other: StoredQuestion
    decision: StoredDecision | None
    chosen: Literal["queue", "audit", ""]
    sampled: float | None
    last: int
    opinions: tuple[StoredVerdict, ...] = ()

    @property
    def slots(self) -> tuple[int, int]:
        """Slots of the two texts: `slots` of the verdict."""
        return self.question.slot, self.other.slot


@dataclass(frozen=True, slots=True)
class ReviewedPair:
    """A judged pair with a verdict.

    Attributes:
        decision: The stored decision, with stratum, value and draw.
        answer: "duplicate", "distinct", "contested" or "skip".
        probability: Inclusion probability pi in the sample, in (0, 1].
        sampled: True if the pair is in the sample; its weight is 1 / `probability`.
        audit_probability: Inclusion probability in the random audit of its stratum, in (0, 1].
        audited: True if the pair is in the random audit.
        last: Number of the last opinion.
    """

    decision: StoredDecision
    answer: str
    probability: float
    sampled: bool
    audit_probability: float
    audited: bool
    last: int


@dataclass(frozen=True, slots=True)
class Estimates:
    """Estimates of what an index decided, from its verdicts.

    All shares are among the pairs that the index judged (`flag_stored`); a duplicate that was no candidate is not
    counted.

    Attributes:
        precision, recall, base_rate: From the whole sample, weighted by 1 / pi; see `sampling.estimate_shares`.
        audit: Precision from the random audit of the stratum "duplicate" alone, with its exact interval.
        covered: Share of the pairs decided "duplicate" that `audit` stands for; below 1 where pairs of other strata
            are decided "duplicate" since.
        sampled: Number of pairs in the sample with an answer.
        unclear: Number of pairs in the sample that are contested or skipped; they are left out.
        outside: Number of answered pairs that are not in the sample, chosen by hand for instance; they are left out.
        judged: Number of judged pairs.
        undrawn: Number of further decisions, of an older format, that no sample covers until they are made again.
        guarantee: Guarantee of the decider in one line; "" without a calibrated pipeline.
        target: Minimum precision or recall of the decider's policy, or None.
        target_of: "precision" or "recall", or None.
        outcome: "kept" if the interval lies at or above the target, "missed" if it lies below, "open" if it holds the
            target or the verdicts are too few, "" without a target. Precision is compared by `audit`.
    """

    precision: Estimate
    recall: Estimate
    base_rate: Estimate
    audit: Estimate
    covered: float
    sampled: int
    unclear: int
    outside: int
    judged: int
    undrawn: int
    guarantee: str = ""
    target: float | None = None
    target_of: Literal["precision", "recall"] | None = None
    outcome: Literal["kept", "missed", "open", ""] = ""


def progressed(view: View) -> Progressed:
    """Return the progress of the audits and the queue.

    It takes a few look-ups, whatever the number of decisions.
    """
    audits = {}
    for stratum in STRATA:
        for _, _, _, drawn in view.unanswered(AUDIT_ORDER, 1, "stratum=?", (stratum,)):
            audits[stratum] = drawn
    first = view.unanswered(QUEUE_ORDER, 1)
    return Progressed(audits, first[0][3] / first[0][2]) if first else Progressed(audits)


def reviewed_pairs(view: View) -> list[ReviewedPair]:
    """Return the judged pairs with a verdict on their present texts.

    They are in order of their first verdict.
    """
    now = progressed(view)
    decisions: dict[tuple[Id, Id], StoredDecision] = {}
    verdicts: dict[tuple[Id, Id], list[StoredVerdict]] = {}
    for decision, verdict in view.answered():
        pair = (decision.id, decision.other)
        decisions[pair] = decision
        verdicts.setdefault(pair, []).append(verdict)
    found = []
    for pair, decision in decisions.items():
        given = opinions(verdicts[pair])
        pi = now.probability(decision.stratum, decision.value)
        audit = now.audit_probability(decision.stratum)
        known = decision.stratum in STRATA
        found.append(
            ReviewedPair(
                decision=decision,
                answer=answer_of(given),
                probability=pi,
                sampled=known and now.sampled(decision.stratum, decision.value, decision.drawn),
                audit_probability=audit,
                audited=known and decision.drawn < audit,
                last=given[-1].number,
            )
        )
    return found


# ---- the queue ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class QueuePosition:
    """Place in the review queue up to which pairs were given.

    Attributes:
        turn: Number of the next turn between queue and audit.
        queue: The highest drawn / value that the queue has given.
        audits: Stratum -> the highest draw that its audit has given.
    """

    turn: int
    queue: float = 0.0
    audits: Mapping[str, float] = field(default_factory=dict)


def review_items(view: View, limit: int, audit_share: float, where: str, values: Sequence[object]) -> list[ReviewItem]:
    """Return the next pairs without a verdict, audit pairs interleaved.

    Args:
        view: Of the store.
        limit: Maximum number of pairs.
        audit_share: Share of audit pairs, in [0, 1]; it holds over successive calls, because the turn depends on the
            number of verdicts that were given.
        where, values: Condition on the columns of `decisions`.
    """
    return queue_part(view, limit, audit_share, where, values, None)[0]


def queue_part(
    view: View, limit: int, audit_share: float, where: str, values: Sequence[object], after: QueuePosition | None
) -> tuple[list[ReviewItem], QueuePosition]:
    """Return the pairs after a position, and the position after them.

    Args:
        view, limit, audit_share, where, values: As in `review_items`.
        after: The position; None: the start.
    """
    start = QueuePosition(view.last_verdict()) if after is None else after
    conditions, known = [where] if where else [], [*values]
    if start.queue:
        conditions.append(f"{QUEUE_ORDER}>?")
        known.append(start.queue)
    for stratum, drawn in start.audits.items():
        conditions.append("NOT (stratum=? AND drawn<=?)")
        known += [stratum, drawn]

    def source(order: str, stratum: str = "") -> Iterator[tuple[int, int, float, float]]:
        parts = ["stratum=?", *conditions] if stratum else conditions
        given = [stratum, *known] if stratum else known
        # Twice as many, because an order may begin with pairs that another one has given already.
        yield from view.unanswered(order, 2 * limit, " AND ".join(parts), given)

    sources = {"queue": source(QUEUE_ORDER), **{stratum: source(AUDIT_ORDER, stratum) for stratum in STRATA}}
    chosen: dict[tuple[int, int], Literal["queue", "audit"]] = {}
    queue, audits = start.queue, dict(start.audits)
    for place in range(start.turn, start.turn + limit):
        first = turn(place, audit_share)
        # An order that has come to its end gives its turns to the other audits, then to the queue.
        names = ("queue",) if first == "queue" else (first, *(s for s in STRATA if s != first), "queue")
        for name in names:
            row = next((row for row in sources[name] if row[:2] not in chosen), None)
            if row is None:
                continue
            slot, other, value, drawn = row
            chosen[slot, other] = "queue" if name == "queue" else "audit"
            if name == "queue":
                queue = drawn / value
            else:
                audits[name] = drawn
            break
        else:
            break  # all orders have come to their end
    now, questions = progressed(view), view.questions({slot for pair in chosen for slot in pair})
    items = [_item(view, now, questions, pair, reason) for pair, reason in chosen.items()]
    return items, QueuePosition(start.turn + len(items), queue, audits)


def contested_items(
    view: View,
    limit: int,
    by: str | None,
    decision: str | None,
    probabilities: tuple[float, float],
) -> list[ReviewItem]:
    """Return contested pairs, the oldest first.

    Args:
        view: Of the store.
        limit: Maximum number of pairs.
        by: Leave out pairs that this moderator has an opinion on.
        decision: The decision of the pairs; None: any, or none.
        probabilities: Lowest and highest probability; a pair without a decision is within [0, 1] only.
    """
    found = (item for _, item in contested(view, by) if is_within(item, decision, probabilities))
    return list(islice(found, limit))


def contested(view: View, by: str | None = None, after: int = 0) -> Iterator[tuple[int, ReviewItem]]:
    """Yield the contested pairs, the oldest first.

    Each comes with the number of the first verdict that stands on it.

    Args:
        view: Of the store.
        by: Leave out pairs that this moderator has an opinion on.
        after: Leave out pairs whose first verdict has this number or a lower one.
    """
    rows = view.verdicts_where(
        f"{STANDING} AND {ON_STORED} AND EXISTS (SELECT 1 FROM verdicts x WHERE x.slot_one=v.slot_one"
        " AND x.slot_other=v.slot_other AND x.moderator<>v.moderator)"
    )
    pairs: dict[tuple[int, int], list[StoredVerdict]] = {}
    for row in rows:
        pairs.setdefault((row.slot_one, row.slot_other), []).append(row)
    now = progressed(view)
    for pair, verdicts in pairs.items():
        given = opinions(verdicts)
        by_others = answer_of(given) == "contested" and by not in {verdict.by for verdict in given}
        if by_others and verdicts[0].number > after:
            yield verdicts[0].number, _item(view, now, view.questions(pair), pair, "", given)


def answered_by(view: View, by: str, before: int | None = None) -> Iterator[tuple[int, ReviewItem]]:
    """Yield the pairs that a moderator has an opinion on, the last one first.

    Each comes with the number of the opinion.

    Args:
        view: Of the store.
        by: Name of the moderator.
        before: Leave out opinions with this number or a higher one; None: none.
    """
    now, part = progressed(view), 100
    later = (
        "NOT EXISTS (SELECT 1 FROM verdicts x WHERE x.slot_one=v.slot_one AND x.slot_other=v.slot_other"
        " AND x.moderator=v.moderator AND x.number>v.number AND x.answer<>'undo'"
        " AND NOT EXISTS (SELECT 1 FROM verdicts y WHERE y.undoes=x.number))"
    )
    number = view.last_verdict() + 1 if before is None else before
    while True:
        rows = view.verdicts_where(
            f"v.moderator=? AND v.number<? AND {STANDING} AND {ON_STORED} AND {later}", (by, number), limit=part
        )
        for row in rows:
            pair = (row.slot_one, row.slot_other)
            yield row.number, _item(view, now, view.questions(pair), pair, "", _opinions_at(view, pair))
        if len(rows) < part:
            return
        number = rows[-1].number


def is_within(item: ReviewItem, decision: str | None, probabilities: tuple[float, float]) -> bool:
    """Return True if a pair has this decision, and a probability in this range."""
    low, high = probabilities
    if item.decision is None:
        return decision is None and (low, high) == (0, 1)
    return decision in (None, item.decision.decision) and low <= item.decision.probability <= high


def pair_item(view: View, one: Id, other: Id) -> ReviewItem:
    """Return the item of a pair, with the opinions that stand on its two texts.

    Raises:
        InputError: A question is not stored.
    """
    slots = require_stored(view, (one, other))
    pair = (min(slots.values()), max(slots.values()))
    return _item(view, progressed(view), view.questions(pair), pair, "", _opinions_at(view, pair))


def _opinions_at(view: View, pair: tuple[int, int]) -> tuple[StoredVerdict, ...]:
    return opinions(view.verdicts_where(f"{STANDING} AND v.slot_one=? AND v.slot_other=?", pair))


def _item(
    view: View,
    now: Progressed,
    questions: dict[int, StoredQuestion],
    pair: tuple[int, int],
    chosen: Literal["queue", "audit", ""],
    given: tuple[StoredVerdict, ...] = (),
) -> ReviewItem:
    question, other = questions[pair[0]], questions[pair[1]]
    decision = view.decision_at(*pair)
    rows = view.verdicts(pair=(question.id, other.id))
    return ReviewItem(
        question=question,
        other=other,
        decision=decision,
        chosen=chosen,
        sampled=None if decision is None else now.probability(decision.stratum, decision.value),
        last=rows[-1].number if rows else 0,
        opinions=given,
    )


# ---- the estimates --------------------------------------------------------------------------------------------------


def estimates(view: View, decider: Decider | None) -> Estimates:
    """Estimate precision, recall and base rate from the verdicts.

    The outcome compares them with the minimum precision or recall of the decider's policy.

    Args:
        view: Of the store.
        decider: The decider of the pipeline; None: there is nothing to compare with.
    """
    counts: dict[tuple[str, bool], int] = {}
    undrawn = 0
    for (stratum, decision), count in view.decision_counts().items():
        if stratum not in STRATA:
            undrawn += count
            continue
        cell = (stratum, decision == FLAGGED)
        counts[cell] = counts.get(cell, 0) + count
    pairs = reviewed_pairs(view)
    sample = [pair for pair in pairs if pair.sampled]
    clear = [pair for pair in sample if pair.answer in ("duplicate", "distinct")]
    shares = estimate_shares(
        [pair.decision.stratum for pair in clear],
        [pair.decision.decision == FLAGGED for pair in clear],
        [pair.answer == "duplicate" for pair in clear],
        np.array([pair.probability for pair in clear], np.float64),
        counts,
    )
    audit = audited_share(
        [
            pair.answer == "duplicate"
            for pair in clear
            if pair.audited and pair.decision.stratum == pair.decision.decision == FLAGGED
        ]
    )
    flagged = sum(count for (_, side), count in counts.items() if side)
    policy = None if decider is None else _policy(decider)
    target = policy.level if policy is not None else None
    target_of: Literal["precision", "recall"] | None = None
    if policy is not None:
        target_of = "precision" if policy.kind == "precision" else "recall"
    compared = audit if target_of == "precision" else shares.recall
    return Estimates(
        precision=shares.precision,
        recall=shares.recall,
        base_rate=shares.base_rate,
        audit=audit,
        covered=counts.get((FLAGGED, True), 0) / flagged if flagged else 1.0,
        sampled=len(clear),
        unclear=len(sample) - len(clear),
        outside=len(pairs) - len(sample),
        judged=sum(counts.values()),
        undrawn=undrawn,
        guarantee="" if decider is None else decider.guarantee,
        target=target,
        target_of=target_of,
        outcome=_outcome(compared, target),
    )


def _policy(decider: Decider) -> Policy | None:
    """Return the policy of the duplicate threshold.

    None if it has no minimum precision or recall, or if the threshold is overridden.
    """
    if decider.threshold_override is not None:
        return None
    policy = decider.candidates.policy if decider.candidates is not None else decider.rule.duplicate.policy
    return policy if policy.kind in ("precision", "recall") else None


def _outcome(estimate: Estimate, target: float | None) -> Literal["kept", "missed", "open", ""]:
    if target is None:
        return ""
    if estimate.value is None:
        return "open"
    return "kept" if estimate.low >= target else "missed" if estimate.high < target else "open"
