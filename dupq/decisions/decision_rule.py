"""Decide by one threshold, or by two with review between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dupq.data import checks
from dupq.data.arguments import as_kind
from dupq.decisions.threshold_table import ThresholdTable, build_threshold_table
from dupq.decisions.thresholds import (
    DELTA,
    Policy,
    Threshold,
    choose_threshold,
)
from dupq.errors import ModelFolderError

_LOCATION = "decision rule"


@dataclass(frozen=True, slots=True)
class DecisionRule:
    """One or two thresholds on raw scores.

    A score >= the duplicate cut is a duplicate; below the distinct cut it is distinct; between the two it goes to
    review. Without a distinct cut nothing goes to review.

    Attributes:
        duplicate: The threshold from which a pair is a duplicate.
        distinct: The threshold below which a pair is distinct; never above `duplicate`. None: no review.
        table: Counts from which the rule can be chosen again at another base rate; None if they were not kept.
        warning: A reason not to rely on it; None if there is none.
    """

    duplicate: Threshold
    distinct: Threshold | None = None
    table: ThresholdTable | None = None
    warning: str | None = None

    def codes(self, scores: ArrayLike) -> NDArray[np.int8]:
        """Return the decisions as int8 (n,): 0 distinct, 1 review, 2 duplicate.

        Raises:
            InputError: A score is not finite.
        """
        values = checks.as_numbers(scores, "scores")
        if not values.size:
            return np.zeros(0, dtype=np.int8)
        values = checks.checked_scores(values)
        flagged = values >= self.duplicate.score
        kept = flagged if self.distinct is None else values >= self.distinct.score
        return flagged.astype(np.int8) + kept.astype(np.int8)

    @property
    def guarantee(self) -> str:
        """The guarantees of the thresholds, in one line."""
        parts = [self.duplicate.guarantee]
        if self.distinct is not None:
            parts.append(f"dropped as distinct: {self.distinct.guarantee}")
        if self.warning:
            parts.append(f"WARNING: {self.warning}")
        return "; ".join(parts)

    @property
    def delta(self) -> float:
        """Failure probability of the guarantees; 0.05 where there are none."""
        distinct = None if self.distinct is None else self.distinct.policy.delta
        return self.duplicate.policy.delta or distinct or DELTA

    def at_base_rate(self, base_rate: float | None) -> DecisionRule:
        """Choose the rule again at another base rate, by the same policies.

        Each such rule keeps its guarantees with its own confidence; there is no joint one over several base rates. A
        threshold without counted evidence stays where it is: one that came without a table, or that an adaptation chose
        from expected counts. It guarantees nothing there that depends on the base rate.

        Args:
            base_rate: In (0, 1); None: that of the table itself.

        Raises:
            NotEnoughLabelsError: The table cannot support the guarantee at that base rate.
        """
        rate = None if base_rate is None else checks.checked_rate(base_rate)

        def moved(threshold: Threshold) -> Threshold:
            if self.table is None or threshold.expected:
                return threshold.without_evidence_at(threshold.base_rate if rate is None else rate)
            return choose_threshold(threshold.policy, self.table, rate)

        duplicate = moved(self.duplicate)
        distinct = None if self.distinct is None else cap_distinct(moved(self.distinct), duplicate)
        return replace(self, duplicate=duplicate, distinct=distinct)

    def expected(self, base_rate: float) -> Mapping[str, float]:
        """Estimate precision, recall and shares at a base rate, without bounds.

        They hold for pairs like those of the table, of which only the share of duplicates differs. Candidates of mining
        are not such pairs: a search picked them because they are similar.

        Returns:
            `precision` of what is flagged (1 where nothing is), `recall`: share of all duplicates flagged, `miss_rate`:
            share of all duplicates dropped as distinct, and the shares of all pairs: `flagged`, `review`, `dropped`.

        Raises:
            ModelFolderError: The table was not kept.
        """
        rate = checks.checked_rate(base_rate)
        if self.table is None:
            raise ModelFolderError(
                "this rule came without its threshold table", location=_LOCATION, hint="calibrate again"
            )
        recall, false_flags = self.table.rates(self.duplicate.score)
        kept, kept_distinct = self.table.rates((self.distinct or self.duplicate).score)
        flagged = rate * recall + (1 - rate) * false_flags
        review = rate * (kept - recall) + (1 - rate) * (kept_distinct - false_flags)
        return {
            "precision": rate * recall / flagged if flagged > 0 else 1.0,
            "recall": recall,
            "miss_rate": 1 - kept,
            "flagged": flagged,
            "review": review,
            "dropped": 1 - flagged - review,
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain data that JSON can hold."""
        return {
            "duplicate": self.duplicate.to_dict(),
            "distinct": self.distinct.to_dict() if self.distinct else None,
            "table": self.table.to_dict() if self.table else None,
            "warning": self.warning,
        }

    @classmethod
    def from_dict(cls, data: Any) -> DecisionRule:
        """Read the data of `to_dict`.

        Raises:
            ModelFolderError: It is damaged.
        """
        duplicate = Threshold.from_dict(checks.field(data, "duplicate", dict, _LOCATION))
        distinct = Threshold.from_dict(data["distinct"]) if data.get("distinct") is not None else None
        table = ThresholdTable.from_dict(data["table"]) if data.get("table") is not None else None
        warning = None if data.get("warning") is None else checks.field(data, "warning", str, _LOCATION)
        if distinct is not None and distinct.score > duplicate.score:
            raise ModelFolderError("its thresholds are the wrong way round", location=_LOCATION, hint="calibrate again")
        return cls(duplicate, distinct, table, warning)


def cap_distinct(distinct: Threshold, duplicate: Threshold) -> Threshold:
    """Lower a distinct threshold to the duplicate one.

    It drops fewer pairs then, so its guarantee still holds.
    """
    if distinct.score <= duplicate.score:
        return distinct
    return replace(distinct, score=duplicate.score)


def policies_of(
    policy: Policy | str | None, miss_rate: float | None = None, delta: float | None = None
) -> tuple[Policy, Policy | None]:
    """Return the policies of both thresholds, with one delta.

    Args:
        policy: Policy of the duplicate threshold, or its text; None: the highest F1.
        miss_rate: At most this share of *all duplicates* is dropped as distinct, with confidence 1 - delta: a guarantee
            that holds at any base rate. None: no distinct threshold.
        delta: Failure probability of both guarantees, in (0, 1); None: that of the policy, or 0.05 where it has none. A
            policy that guarantees nothing stays so.

    Raises:
        InputError: A value is out of its range.
    """
    duplicate = Policy.parse("f1" if policy is None else policy, delta)
    if miss_rate is None:
        return duplicate, None
    kept = 1 - checks.checked_rate(miss_rate, "miss rate")
    return duplicate, Policy.recall(kept, delta or duplicate.delta or DELTA)


def choose_by(
    table: ThresholdTable,
    duplicate: Policy,
    distinct: Policy | None = None,
    base_rate: float | None = None,
    near: DecisionRule | None = None,
) -> DecisionRule:
    """Choose a rule by two policies, each with its own delta.

    Args:
        table: See `build_threshold_table`.
        duplicate, distinct: Policies of the two thresholds; `distinct` None: no review.
        base_rate: The share of duplicates where the rule will be used; None: the table's own.
        near: A rule to stay near as far as the guarantees allow; see `choose_threshold`.

    Raises:
        NotEnoughLabelsError: The table cannot support a guarantee.
    """
    if near is not None:
        as_kind(near, DecisionRule, "near", "give the rule of a calibrated pipeline")
    stay = near.duplicate.score if near else None
    upper = choose_threshold(duplicate, table, base_rate, near=stay)
    if distinct is None:
        return DecisionRule(upper, None, table)
    stay = near.distinct.score if near and near.distinct else None
    return DecisionRule(upper, cap_distinct(choose_threshold(distinct, table, base_rate, near=stay), upper), table)


def choose_rule(
    table: ThresholdTable,
    policy: Policy | str | None = None,
    *,
    miss_rate: float | None = None,
    delta: float | None = None,
    base_rate: float | None = None,
    near: DecisionRule | None = None,
) -> DecisionRule:
    """Choose a rule by a policy and, for a review zone, a miss rate.

    See `policies_of` for `policy`, `miss_rate` and `delta`, and `choose_by` for the other arguments and the errors.
    """
    return choose_by(table, *policies_of(policy, miss_rate, delta), base_rate, near)


def fit_rule(
    scores: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike | None = None,
    policy: Policy | str | None = None,
    *,
    miss_rate: float | None = None,
    delta: float | None = None,
    base_rate: float | None = None,
    seed: int = 0,
    date: str | None = None,
    data_fingerprint: str = "",
    scorer_fingerprint: str = "",
) -> DecisionRule:
    """Count labelled pairs and choose a rule.

    See `build_threshold_table` and `choose_rule` for arguments and errors.
    """
    table = build_threshold_table(
        scores,
        labels,
        groups,
        seed=seed,
        date=date,
        data_fingerprint=data_fingerprint,
        scorer_fingerprint=scorer_fingerprint,
    )
    return choose_rule(table, policy, miss_rate=miss_rate, delta=delta, base_rate=base_rate)
