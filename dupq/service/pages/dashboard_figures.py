"""Figures of the dashboard: from the store and the monitor to plain values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray

from dupq.calibration.candidates import effective_number
from dupq.decisions.decider import Decider
from dupq.evaluation.metrics import wilson
from dupq.index.monitor import PrecisionAlarm
from dupq.index.review import ReviewedPair
from dupq.index.sampling import MIN_PAIRS, Estimate
from dupq.index.stores.sql import STANDING, View
from dupq.service.pages.charts import Bin

Floats = NDArray[np.float64]

EDGES = (0.05, 0.2, 0.4, 0.6, 0.8, 0.95)
"""Probabilities between the bins of the reliability diagram; most judged pairs are at the two ends."""
SCORE_BINS = 16
"""Bins of the scores."""


# ---- time -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Day:
    """One day of the review, in UTC.

    Attributes:
        day: The day.
        duplicate, distinct, skip: Verdicts that were given on this day and stand, by answer.
        waiting: Pairs without a verdict at the end of the day.
    """

    day: date
    duplicate: int
    distinct: int
    skip: int
    waiting: int

    @property
    def verdicts(self) -> int:
        """All verdicts of the day."""
        return self.duplicate + self.distinct + self.skip


def days_of(view: View, count: int, today: date) -> list[Day]:
    """Return the last days of the review, oldest first.

    A pair of questions waits from the day on which the later one was posted, since the index keeps no other date of it,
    until its first verdict that stands.

    Args:
        view: Of the store.
        count: Number of days, at least 1.
        today: The last day, in UTC.
    """
    first = today - timedelta(days=count - 1)
    run = view.session.run
    verdicts = run(
        f"SELECT substr(v.at, 1, 10) AS day, v.answer, count(*) FROM verdicts v WHERE {STANDING} AND v.at>=?"
        " GROUP BY substr(v.at, 1, 10), v.answer",
        (first.isoformat(),),
    )
    given = {(day, answer): number for day, answer, number in verdicts}
    arrived = run(
        "SELECT day, count(*) FROM (SELECT substr(CASE WHEN coalesce(a.created, '') > coalesce(b.created, '')"
        " THEN coalesce(a.created, '') ELSE coalesce(b.created, '') END, 1, 10) AS day FROM decisions"
        " JOIN questions a ON a.slot=decisions.slot JOIN questions b ON b.slot=decisions.other) pairs GROUP BY day"
    )
    answered = run(
        "SELECT day, count(*) FROM (SELECT min(substr(v.at, 1, 10)) AS day FROM verdicts v"
        " JOIN decisions d ON d.slot=v.slot_one AND d.other=v.slot_other"
        f" WHERE {STANDING} GROUP BY v.slot_one, v.slot_other) pairs GROUP BY day"
    )
    # A date after today belongs to today: the last number is then that of the queue.
    steps = [(min(day, today.isoformat()), number) for day, number in arrived]
    steps += [(min(day, today.isoformat()), -number) for day, number in answered]
    found = []
    for offset in range(count):
        day = first + timedelta(days=offset)
        name = day.isoformat()
        waiting = sum(number for at, number in steps if at <= name)
        duplicate, distinct, skip = (given.get((name, answer), 0) for answer in ("duplicate", "distinct", "skip"))
        found.append(Day(day, duplicate, distinct, skip, max(waiting, 0)))
    return found


# ---- reliability ----------------------------------------------------------------------------------------------------


def reliability_bins(pairs: Iterable[ReviewedPair]) -> list[Bin]:
    """Return the bins of the reliability diagram that have a verdict.

    The bins are in order of rising probability. Pairs outside of the sample, and those without a clear answer, are left
    out. A pair has the weight 1 / pi; the interval is Wilson's (1927) at the number of pairs of equal weight that are
    worth as much (Kish 1965).
    """
    clear = [pair for pair in pairs if pair.sampled and pair.answer in ("duplicate", "distinct")]
    p = np.array([pair.decision.probability for pair in clear], np.float64)
    y = np.array([pair.answer == "duplicate" for pair in clear], np.float64)
    w = np.array([1 / pair.probability for pair in clear], np.float64)
    place = np.digitize(p, EDGES)
    found = []
    for number in np.unique(place):
        inside = place == number
        weights = w[inside]
        share = float(np.average(y[inside], weights=weights))
        low, high = wilson(share, effective_number(weights))
        mean = float(np.average(p[inside], weights=weights))
        found.append(Bin(mean, share, min(low, share), max(high, share), int(inside.sum())))
    return found


# ---- scores ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Scores:
    """Distribution of the raw scores at the calibration and since.

    Attributes:
        edges: k + 1 rising scores.
        expected: Share of the candidates of the calibration in each of k bins.
        live: Share of the pairs that were judged since.
        pairs: Number of those pairs.
    """

    edges: tuple[float, ...]
    expected: tuple[float, ...]
    live: tuple[float, ...]
    pairs: int


def score_shares(decider: Decider, live: Sequence[float]) -> Scores | None:
    """Return both distributions of the scores, or None if one of them is not known."""
    if decider.candidates is None or not len(live):
        return None
    scores, shares = np.array(decider.candidates.scores), np.array(decider.candidates.shares)
    values = np.array(live, np.float64)
    low, high = min(scores.min(), values.min()), max(scores.max(), values.max())
    if not low < high:
        return None
    edges = np.linspace(low, high, SCORE_BINS + 1)
    expected, _ = np.histogram(scores, edges, weights=shares)
    counts, _ = np.histogram(values, edges)
    return Scores(
        tuple(edges.tolist()),
        tuple((expected / expected.sum()).tolist()),
        tuple((counts / counts.sum()).tolist()),
        len(values),
    )


def live_scores(view: View, scorer: str) -> list[float]:
    """Return the scores of pairs that are newer than the calibration in use.

    The later question of such a pair was added after the calibration. Without one for this scorer, all pairs count.
    """
    used = view.calibration()
    after = int(used.content.get("last_slot", 0)) if used is not None and used.scorer == scorer else 0
    rows = view.session.run("SELECT score FROM decisions WHERE other>? AND scorer=?", (after, scorer))
    return [row[0] for row in rows]


# ---- words ----------------------------------------------------------------------------------------------------------


def missing(estimate: Estimate, of: str) -> str:
    """Return what a share lacks that has no value yet; "" if it has one.

    Args:
        estimate: The share.
        of: The verdicts that it needs, in the singular: "audited verdict".
    """
    if estimate.value is not None:
        return ""
    lacking = MIN_PAIRS - estimate.pairs
    have = f"{estimate.pairs} {of}{'' if estimate.pairs == 1 else 's'}" if estimate.pairs else f"No {of}"
    if lacking <= 0:
        return f"{have} so far, none of them a duplicate."
    return f"{have} yet: {lacking} more {'is' if lacking == 1 else 'are'} needed for an interval."


def alarm_sentence(alarm: PrecisionAlarm | None) -> str:
    """Explain the alarm of the precision in one sentence."""
    if alarm is None:
        return "The policy of the threshold states no precision, so there is nothing to raise an alarm about."
    level, rate, limit = f"{alarm.level:.0%}", f"{alarm.false_alarm_rate:.0%}", 1 / alarm.false_alarm_rate
    if not alarm.pairs:
        return f"No flagged pair was audited since the calibration, so a precision below {level} could not show yet."
    seen = f"{alarm.duplicates:,} of {alarm.pairs:,} audited flagged pairs are duplicates"
    if alarm.raised:
        return (
            f"{seen}, too few for a precision of {level} or more: if it held, this alarm would ever be raised with a"
            f" probability of at most {rate}."
        )
    return (
        f"{seen}, which a precision of {level} or more explains: the evidence against it was at most"
        f" {alarm.evidence:.2g}, and {limit:.0f} raises the alarm."
    )
