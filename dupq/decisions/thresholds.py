"""The decision rule: one or two thresholds, and so two or three answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dupq.decisions import checks
from dupq.decisions.evidence import Evidence, gather_evidence
from dupq.decisions.policies import DELTA, Policy, Threshold, choose_threshold
from dupq.errors import ModelFolderError
from dupq.records import Decision

__all__ = ["DecisionRule", "Policy", "Threshold", "choose_rule", "choose_threshold", "fit_rule", "gather_evidence"]

_WHERE = "decision rule"


@dataclass(frozen=True, slots=True)
class DecisionRule:
    """Raw scores to decisions.

    A score >= the duplicate cut is a duplicate; below the distinct cut it is distinct; between the two it goes to
    review. Without a distinct cut nothing goes to review.

    Attributes:
        duplicate: From here on a pair is called a duplicate.
        distinct: Below here it is called distinct; never above `duplicate`.
        evidence: Counts from which the rule can be chosen again at another base rate; None if they were not kept.
        warning: What stands in the way of trusting it; None if nothing does.
    """

    duplicate: Threshold
    distinct: Threshold | None = None
    evidence: Evidence | None = None
    warning: str | None = None

    def decide(self, scores: ArrayLike) -> list[Decision]:
        """One decision a score, in their order.

        Raises:
            InputError: A score that is not finite.
        """
        answers = (Decision.DISTINCT, Decision.REVIEW, Decision.DUPLICATE)
        return [answers[code] for code in self.codes(scores)]

    def codes(self, scores: ArrayLike) -> NDArray[np.int8]:
        """The decisions as int8 (n,): 0 distinct, 1 review, 2 duplicate."""
        if not np.size(scores):
            return np.zeros(0, dtype=np.int8)
        values = checks.checked_scores(scores)
        flagged = values >= self.duplicate.score
        kept = flagged if self.distinct is None else values >= self.distinct.score
        return flagged.astype(np.int8) + kept.astype(np.int8)

    @property
    def promise(self) -> str:
        """What the thresholds promise, in one line."""
        parts = [self.duplicate.promise]
        if self.distinct is not None:
            parts.append(f"dropped as distinct: {self.distinct.promise}")
        if self.warning:
            parts.append(f"WARNING: {self.warning}")
        return "; ".join(parts)

    def at_base_rate(self, base_rate: float) -> DecisionRule:
        """The rule chosen anew, by the same policies and on the same evidence, for another share of duplicates.

        Each such rule keeps its promises with its own confidence; there is no joint one over several base rates.

        Raises:
            NotEnoughLabelsError: The evidence cannot support the promise at that base rate.
            ModelFolderError: The evidence was not kept.
        """
        if self.evidence is None:
            raise ModelFolderError(
                "this rule came without its evidence, so it cannot be moved", where=_WHERE, mend="calibrate again"
            )
        duplicate = choose_threshold(self.duplicate.policy, self.evidence, base_rate)
        distinct = None
        if self.distinct is not None:
            distinct = lower_of(choose_threshold(self.distinct.policy, self.evidence, base_rate), duplicate)
        return DecisionRule(duplicate, distinct, self.evidence, self.warning)

    def expected(self, base_rate: float) -> Mapping[str, float]:
        """What this rule, as it stands, is expected to do at a base rate; estimates from all evidence, no bounds.

        Returns:
            `precision` of what is flagged (1 where nothing is), `recall`: share of all duplicates flagged, `miss_rate`:
            share of all duplicates dropped as distinct, and the shares of all pairs: `flagged`, `review`, `dropped`.

        Raises:
            ModelFolderError: The evidence was not kept.
        """
        rate = checks.checked_rate(base_rate)
        if self.evidence is None:
            raise ModelFolderError("this rule came without its evidence", where=_WHERE, mend="calibrate again")
        recall, false = self.evidence.rates(self.duplicate.score)
        kept, kept_false = self.evidence.rates((self.distinct or self.duplicate).score)
        flagged = rate * recall + (1 - rate) * false
        review = rate * (kept - recall) + (1 - rate) * (kept_false - false)
        return {
            "precision": rate * recall / flagged if flagged > 0 else 1.0,
            "recall": recall,
            "miss_rate": 1 - kept,
            "flagged": flagged,
            "review": review,
            "dropped": 1 - flagged - review,
        }

    def expected_review_share(self, base_rate: float) -> float:
        """The share of all pairs, in [0, 1], that goes to review at a base rate."""
        return self.expected(base_rate)["review"]

    def to_dict(self) -> dict[str, Any]:
        """Plain data that JSON can hold."""
        return {
            "duplicate": self.duplicate.to_dict(),
            "distinct": self.distinct.to_dict() if self.distinct else None,
            "evidence": self.evidence.to_dict() if self.evidence else None,
            "warning": self.warning,
        }

    @classmethod
    def from_dict(cls, data: Any) -> DecisionRule:
        """Reads what `to_dict` wrote; ModelFolderError where it is damaged."""
        duplicate = Threshold.from_dict(checks.field(data, "duplicate", dict, _WHERE))
        distinct = Threshold.from_dict(data["distinct"]) if data.get("distinct") is not None else None
        evidence = Evidence.from_dict(data["evidence"]) if data.get("evidence") is not None else None
        warning = None if data.get("warning") is None else checks.field(data, "warning", str, _WHERE)
        if distinct is not None and distinct.score > duplicate.score:
            raise ModelFolderError("its thresholds are the wrong way round", where=_WHERE, mend="calibrate again")
        return cls(duplicate, distinct, evidence, warning)


def lower_of(distinct: Threshold, duplicate: Threshold) -> Threshold:
    """A distinct cut above the duplicate cut comes down to it: fewer pairs are dropped, so its promise still holds."""
    if distinct.score <= duplicate.score:
        return distinct
    return replace(distinct, score=duplicate.score)


def choose_rule(
    evidence: Evidence,
    policy: Policy | None = None,
    *,
    miss_rate: float | None = None,
    delta: float = DELTA,
    base_rate: float | None = None,
    near: DecisionRule | None = None,
) -> DecisionRule:
    """The rule that a policy, and a miss rate if there is to be a review zone, ask for.

    Args:
        evidence: See `gather_evidence`.
        policy: Of the duplicate cut; the highest F1 if None.
        miss_rate: At most this share of *all duplicates* is dropped as distinct, with confidence 1 - delta: a promise
            that holds at any base rate. None: two answers, no review.
        delta: Of the promise about misses.
        base_rate: The share of duplicates where the rule will be used; the evidence's own if None.
        near: A rule whose cuts these are to stay at as far as the promises allow; see `choose_threshold`.

    Raises:
        NotEnoughLabelsError: The evidence cannot support a promise.
    """
    stay = near.duplicate.score if near else None
    duplicate = choose_threshold(policy or Policy.max_f1(), evidence, base_rate, near=stay)
    distinct = None
    if miss_rate is not None:
        wanted = Policy.recall(1 - checks.checked_rate(miss_rate, "miss rate"), delta)
        stay = near.distinct.score if near and near.distinct else None
        distinct = lower_of(choose_threshold(wanted, evidence, base_rate, near=stay), duplicate)
    return DecisionRule(duplicate, distinct, evidence)


def fit_rule(
    scores: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike | None = None,
    policy: Policy | None = None,
    *,
    miss_rate: float | None = None,
    delta: float = DELTA,
    base_rate: float | None = None,
    seed: int = 0,
    date: str | None = None,
    data_fingerprint: str = "",
    scorer_fingerprint: str = "",
) -> DecisionRule:
    """Gathers the evidence of labelled pairs and chooses the rule; see `gather_evidence` and `choose_rule`."""
    evidence = gather_evidence(
        scores,
        labels,
        groups,
        seed=seed,
        date=date,
        data_fingerprint=data_fingerprint,
        scorer_fingerprint=scorer_fingerprint,
    )
    return choose_rule(evidence, policy, miss_rate=miss_rate, delta=delta, base_rate=base_rate)
