"""Watch the precision, scores and base rate of a live index.

The alarm has a stated false-alarm rate. It is a test martingale (Waudby-Smith & Ramdas 2024). Null hypothesis: given
the answers before it, each audited flagged pair is a duplicate with a probability of at least the guaranteed precision
g. A bet of size b multiplies the capital by 1 + b (g - x), where x is 1 for a duplicate and 0 for another pair; under
the null it does not grow on average. The evidence is the mean capital over bets of several sizes that start at each of
the pairs, the j-th with weight 1 / (j (j + 1)) (cf. Shin, Ramdas & Rinaldo 2024), so that a late drop of the precision
is found too. By Ville's inequality (1939) it ever reaches 1 / alpha with a probability of at most alpha, however long
the index lives and whenever one looks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dupq.calibration.calibrators import Calibrator
from dupq.calibration.prior_shift import MIN_PAIRS, ScoreReference
from dupq.data.checks import as_numbers, checked_rate
from dupq.decisions.candidate_calibration import CandidateCalibration
from dupq.decisions.decider import Decider
from dupq.decisions.drift import DriftMonitor, DriftResult
from dupq.errors import InputError
from dupq.index.calibration_versions import read_cosines
from dupq.index.review import Estimates, estimates
from dupq.index.sampling import FLAGGED
from dupq.index.stores.base import StoredDecision, StoredVerdict, encoded_id
from dupq.index.stores.sql import View
from dupq.types import Id

Floats = NDArray[np.float64]

ALPHA = 0.05
"""Default probability that the alarm is ever raised although the precision holds."""
DRIFT_RATE = 0.01
"""False-alarm rate of one check of the scores; each call of the monitor is one."""
DROPS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
"""Drops of the precision, as shares of g, that the bets are the best ones for (Kelly 1956)."""


def alarm_evidence(answers: ArrayLike, level: float) -> Floats:
    """Return the evidence against a precision of `level` or more.

    It has one value after each answer, (n,), above 0.

    Args:
        answers: 1 for a duplicate and 0 for another pair, (n,), in the order in which they were given.
        level: The precision g, in (0, 1).

    Raises:
        InputError: An answer other than 0 and 1, or a level outside (0, 1).
    """
    g = checked_rate(level, "level")
    x = as_numbers(answers, "answers")
    if x.ndim != 1 or not np.isin(x, (0, 1)).all():
        raise InputError("answers must be 0 or 1, one a pair", hint="leave out the pairs without a clear answer")
    # The best bet against a precision q < g is the likelihood ratio of q and g.
    other = g * (1 - np.array(DROPS))
    gains = np.where(x[:, None] == 1, other / g, (1 - other) / (1 - g))
    evidence, capital = np.empty(len(x)), np.zeros(len(DROPS))
    for place, gain in enumerate(gains):
        capital = gain * (capital + 1 / ((place + 1) * (place + 2)))
        # Bets that have not started yet hold their weight.
        evidence[place] = capital.mean() + 1 / (place + 2)
    return evidence


@dataclass(frozen=True, slots=True)
class PrecisionAlarm:
    """Alarm of the precision of flagged pairs.

    Attributes:
        level: Precision that is tested, in (0, 1).
        false_alarm_rate: Probability alpha of a false alarm over all time.
        pairs: Number of audited flagged pairs with a clear answer, since the calibration.
        duplicates: Duplicates among them.
        evidence: The highest evidence until now; the alarm is raised from 1 / alpha on.
        raised_at: Number of answers after which it was raised first; None if it was not.
    """

    level: float
    false_alarm_rate: float
    pairs: int
    duplicates: int
    evidence: float
    raised_at: int | None

    @property
    def raised(self) -> bool:
        """True where the alarm is raised; it stays so until the index is calibrated again."""
        return self.raised_at is not None

    def __str__(self) -> str:
        state = f"ALARM after {self.raised_at:,} answers" if self.raised_at is not None else "no alarm"
        return (
            f"{state}: evidence {self.evidence:.3g} of {1 / self.false_alarm_rate:.3g} against a precision >= "
            f"{self.level:g} ({self.duplicates:,} duplicates of {self.pairs:,} audited flagged pairs; false-alarm rate "
            f"{self.false_alarm_rate:g} for all time)"
        )


def precision_alarm(answers: ArrayLike, level: float, alpha: float = ALPHA) -> PrecisionAlarm:
    """Test the precision of flagged pairs by the answers on audited ones.

    Args:
        answers: 1 for a duplicate and 0 for another pair, (n,), in the order in which they were given.
        level: The precision that holds under the null hypothesis, in (0, 1).
        alpha: Probability of a false alarm over all time, in (0, 1).

    Raises:
        InputError: An argument is out of its range.
    """
    rate = checked_rate(alpha, "alpha")
    evidence = alarm_evidence(answers, level)
    above = np.flatnonzero(evidence >= 1 / rate)
    return PrecisionAlarm(
        level=float(level),
        false_alarm_rate=rate,
        pairs=len(evidence),
        duplicates=int(as_numbers(answers, "answers").sum()),
        evidence=float(evidence.max()) if len(evidence) else 1.0,
        raised_at=int(above[0]) + 1 if len(above) else None,
    )


def score_reference(calibration: CandidateCalibration, judged: int) -> ScoreReference | None:
    """Return the score distributions that a calibration was made with.

    They are of the log-odds where the calibrator reads cosines, because blocks of candidates are ranked by them.
    Duplicates and distinct pairs are expected counts under its calibrator, rounded. The result is None where all scores
    are equal, or where no duplicate or no distinct pair is expected.

    Args:
        calibration: The calibration, whose blocks of scores are read.
        judged: Number of pairs that the blocks stand for.
    """
    shares = np.array(calibration.shares)
    scores = _monitored(calibration.calibrator, np.array(calibration.scores), calibration.cosines)
    rising = np.argsort(scores, kind="stable")
    values, at = np.unique(scores[rising], return_inverse=True)
    if len(values) < 2:
        return None
    p = calibration.calibrator.probabilities(calibration.scores, cosines=calibration.cosines)
    mass = np.bincount(at, shares[rising]) * judged
    ones = np.round(np.bincount(at, (shares * p)[rising]) * judged).astype(np.int64)
    zeros = np.maximum(np.round(mass).astype(np.int64) - ones, 0)
    if not ones.any() or not zeros.any():
        return None
    edges = (values[1:] + values[:-1]) / 2
    return ScoreReference(tuple(edges.tolist()), tuple(ones.tolist()), tuple(zeros.tolist()))


def _monitored(calibrator: Calibrator, scores: Floats, cosines: ArrayLike | None) -> Floats:
    """Return the values (n,) whose drift is checked.

    They are the scores, or the log-odds where the calibrator reads cosines.
    """
    return calibrator.log_odds(scores, cosines=cosines) if calibrator.reads_cosines else scores


def score_drift(reference: ScoreReference | None, scores: Floats, groups: ArrayLike) -> DriftResult | str:
    """Return the drift of live scores (n,) against a reference, or why there is none."""
    if reference is None:
        return "no drift check: the calibration kept no scores of candidates"
    if len(scores) < MIN_PAIRS:
        return f"no drift check: {len(scores)} pairs since the calibration are too few ({MIN_PAIRS} are needed)"
    return DriftMonitor(reference, false_alarm_rate=DRIFT_RATE).check(scores, groups)


@dataclass(frozen=True, slots=True)
class MonitorReport:
    """State of a live index against its calibration.

    Attributes:
        calibration: Number of the version in use, 0 for the pipeline's own.
        decisions: Decision -> share of the judged pairs.
        estimates: Precision, recall and base rate from the verdicts, and the comparison with the target; the precision
            of `estimates.audit` is from the random audit alone.
        expected_base_rate: Mean probability of the judged pairs when the version was made.
        alarm: The alarm of the precision; None where the policy states no precision.
        drift: Drift of the scores of pairs since the calibration, or why there is none.
    """

    calibration: int
    decisions: Mapping[str, float]
    estimates: Estimates
    expected_base_rate: float
    alarm: PrecisionAlarm | None
    drift: DriftResult | str

    @property
    def advice(self) -> str:
        """The recommended next step."""
        if self.alarm is not None and self.alarm.raised:
            return "The precision is below its level: calibrate again, or roll back."
        if isinstance(self.drift, DriftResult) and self.drift.alarm:
            return self.drift.advice
        return "Nothing to do."

    def __str__(self) -> str:
        shares = ", ".join(f"{share:.1%} {decision}" for decision, share in self.decisions.items()) or "none"
        return "\n".join(
            [
                f"calibration {self.calibration or 'of the pipeline'}: {self.estimates.guarantee}",
                f"decisions: {shares}",
                f"precision by the audit: {self.estimates.audit}",
                f"precision by all verdicts: {self.estimates.precision}; recall: {self.estimates.recall}",
                f"base rate: {self.estimates.base_rate}; expected {self.expected_base_rate:.3f}",
                str(self.alarm) if self.alarm is not None else "no alarm: the policy states no precision",
                str(self.drift),
                self.advice,
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that JSON can hold."""
        alarm = None if self.alarm is None else {**asdict(self.alarm), "raised": self.alarm.raised}
        return {
            "calibration": self.calibration,
            "decisions": dict(self.decisions),
            "estimates": asdict(self.estimates),
            "expected_base_rate": self.expected_base_rate,
            "alarm": alarm,
            "drift": self.drift if isinstance(self.drift, str) else self.drift.to_dict(),
            "advice": self.advice,
        }


def read_monitor(view: View, decider: Decider, scorer: str, level: float | None, alpha: float) -> MonitorReport:
    """Compare the live index with its calibration; see `QuestionIndex.monitor`.

    Args:
        view: Of the store.
        decider: The decider in use.
        scorer: Fingerprint of the pipeline.
        level: Precision of the alarm, in (0, 1); None: that of the guarantee, or else of the policy.
        alpha: False-alarm rate for all time, in (0, 1).
    """
    stored = view.calibration()
    if stored is not None and stored.scorer != scorer:
        stored = None
    content = {} if stored is None else stored.content
    counts: dict[str, int] = {}
    for (_, decision), count in view.decision_counts().items():
        counts[decision] = counts.get(decision, 0) + count
    total = sum(counts.values())
    tested = _level(decider) if level is None else checked_rate(level, "level")
    alarm = None
    if tested is not None:
        pairs = audited_pairs(view.answered(), scorer, after=int(content.get("last_verdict", 0)))
        answers = [answer for (_, answer), kept in zip(pairs, _flagged(view, decider, pairs), strict=True) if kept]
        alarm = precision_alarm(answers, tested, alpha)
    reference = None
    if decider.candidates is not None:
        judged = int(content.get("judged", round(decider.candidates.effective_pairs)))
        reference = score_reference(decider.candidates, judged)
    rows = view.decisions("decisions.other>? AND decisions.scorer=?", (int(content.get("last_slot", 0)), scorer))
    scores = np.array([row.score for row in rows], np.float64)
    if reference is not None and decider.candidates is not None:
        calibrator = decider.candidates.calibrator
        scores = _monitored(calibrator, scores, read_cosines(view, rows) if calibrator.reads_cosines else None)
    return MonitorReport(
        calibration=0 if stored is None else stored.number,
        decisions={decision: counts[decision] / total for decision in sorted(counts)},
        estimates=estimates(view, decider),
        expected_base_rate=decider.base_rate,
        alarm=alarm,
        drift=score_drift(reference, scores, [encoded_id(row.other) for row in rows]),
    )


def audited_pairs(
    answered: Iterable[tuple[StoredDecision, StoredVerdict]], scorer: str, *, after: int
) -> list[tuple[StoredDecision, int]]:
    """Return the audited pairs that the alarm may read, in order of verdicts.

    Each has 1 for a duplicate and 0 for another pair. They are the first clear answers on pairs that the audit of the
    stratum "duplicate" presented. Pairs that the queue presented do not count, since it takes the uncertain ones first.

    Args:
        answered: Decisions with their standing verdicts, in order of verdicts.
        scorer: Fingerprint of the pipeline.
        after: Number of the last verdict that the calibration has used.
    """
    found: dict[tuple[Id, Id], tuple[StoredDecision, int]] = {}
    for decision, verdict in answered:
        counts = verdict.chosen == "audit" and verdict.answer in ("duplicate", "distinct") and verdict.number > after
        if counts and decision.stratum == FLAGGED and decision.scorer == scorer:
            found.setdefault((decision.id, decision.other), (decision, int(verdict.answer == "duplicate")))
    return list(found.values())


def _flagged(view: View, decider: Decider, pairs: Sequence[tuple[StoredDecision, int]]) -> NDArray[np.bool_]:
    """Return the pairs that the decider flags, or that are copies."""
    rows = [decision for decision, _ in pairs]
    cosines = read_cosines(view, rows) if decider.calibrator.reads_cosines else None
    codes = decider.codes(np.array([row.score for row in rows], np.float64), cosines=cosines)
    return np.asarray((codes == 2) | (np.array([row.probability for row in rows], np.float64) == 1))


def _level(decider: Decider) -> float | None:
    if decider.candidates is None:
        policy = decider.rule.duplicate.policy
    elif decider.candidates.guarantee is not None:
        return decider.candidates.guarantee.level if decider.candidates.guarantee.kind == "precision" else None
    else:
        policy = decider.candidates.policy
    return policy.level if policy.kind == "precision" else None
