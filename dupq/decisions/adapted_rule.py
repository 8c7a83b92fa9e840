"""Adapt a decision rule to a few local labels.

Thresholds come from local labels where these support their guarantees. Where they do not, thresholds are put where the
local calibrator expects the policy to hold; these guarantee nothing, and the rule's `warning` states so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dupq.calibration.adaptation import ENOUGH_LABELS, checked_local
from dupq.calibration.calibrators import Calibrator
from dupq.data.arguments import as_kind, as_seed
from dupq.decisions.decision_rule import DecisionRule, cap_distinct
from dupq.decisions.threshold_table import ThresholdTable, build_threshold_table, provenance
from dupq.decisions.thresholds import EXPECTED, Policy, Threshold, best_cut, choose_threshold, policy_values
from dupq.errors import NotEnoughLabelsError

Floats = NDArray[np.float64]


def adapt_rule(
    rule: DecisionRule,
    calibrator: Calibrator,
    scores: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    seed: int = 0,
    date: str | None = None,
    data_fingerprint: str = "",
    scorer_fingerprint: str = "",
) -> DecisionRule:
    """Choose a rule by the policies of a fitted one, from local labels.

    A guarantee is tested on the local labels as `choose_threshold` does. A policy without a guarantee is applied to the
    local labels from 300 on. Below, and for a guarantee that the labels cannot support, the policy is applied to the
    local calibrator's probabilities of the local pairs.

    Args:
        rule: The rule whose policies are kept.
        calibrator: The local calibrator, see `adapt_calibrator`.
        scores: Raw scores (n,) by the same scorer, n >= 20.
        labels: 0 or 1 (n,); one label alone will do.
        groups: Question group keys (n,); None: each pair is its own group.
        seed: Seed of the draw of one pair per group.
        date: ISO 8601; None: now.
        data_fingerprint, scorer_fingerprint: Kept with the thresholds.

    Returns:
        The local rule; its `warning` names the guarantees that the labels cannot support.

    Raises:
        NotEnoughLabelsError: Fewer than 20 labels.
        InputError: Scores that are not finite, lengths that differ, labels other than 0 and 1.
    """
    as_kind(rule, DecisionRule, "rule", "give that of a calibrated pipeline")
    as_kind(calibrator, Calibrator, "calibrator", "give that of `adapt_calibrator`")
    as_seed(seed)
    about = provenance(date, data_fingerprint, scorer_fingerprint)
    s, y, g = checked_local(scores, labels, groups)
    table = None
    if 0 < y.sum() < len(y):
        table = build_threshold_table(s, y, g, seed=seed, **about)
    expected = _Expected(s, calibrator.probabilities(s), int(g.max()) + 1, about)
    duplicate, warnings = _local_threshold(rule.duplicate, table, expected)
    distinct = None
    if rule.distinct is not None:
        local_distinct, more_warnings = _local_threshold(rule.distinct, table, expected)
        distinct = cap_distinct(local_distinct, duplicate)
        warnings += more_warnings
    return DecisionRule(duplicate, distinct, table, "; ".join(warnings) or None)


@dataclass(frozen=True, slots=True)
class _Expected:
    """Expected counts under the local calibrator, for too few labels."""

    scores: Floats
    probabilities: Floats
    groups: int
    about: dict[str, Any]

    def threshold(self, policy: Policy) -> Threshold:
        """Choose a threshold from the expected counts; it guarantees nothing."""
        order = np.argsort(-self.scores, kind="stable")
        s, p = self.scores[order], self.probabilities[order]
        ends = np.append(np.flatnonzero(np.diff(s)), len(s) - 1)
        rate = float(p.mean())
        recall, false_positive_rate = np.cumsum(p)[ends] / p.sum(), np.cumsum(1 - p)[ends] / (1 - p).sum()
        values = policy_values(policy, recall, false_positive_rate, rate)
        index = best_cut(policy, values)
        below = s[ends[min(index + 1, len(ends) - 1)]]
        return Threshold(
            score=float((s[ends[index]] + below) / 2),
            policy=policy,
            base_rate=rate,
            rebased=False,
            value=abs(float(values[index])),
            bound=None,
            pairs=len(s),
            groups=self.groups,
            n_evaluated=len(s),
            n_errors=round(len(s) * (rate * (1 - recall[index]) + (1 - rate) * false_positive_rate[index])),
            method=EXPECTED,
            **self.about,
        )


def _local_threshold(
    fitted: Threshold, table: ThresholdTable | None, expected: _Expected
) -> tuple[Threshold, list[str]]:
    """Return a local threshold by the policy that was asked for, and warnings.

    An earlier adaptation may have had too few labels for its guarantee.
    """
    policy = fitted.wanted or fitted.policy
    if policy.delta is None:
        if table is not None and table.pairs >= ENOUGH_LABELS:
            return choose_threshold(policy, table), []
        return expected.threshold(policy), []
    needed = None
    if table is not None:
        try:
            return choose_threshold(policy, table), []
        except NotEnoughLabelsError as error:
            needed = error.needed
    lack = f"about {needed:,} more are needed" if needed else "no number of labels like these would do"
    if table is None:
        lack = "they are all of one kind"
    warning = (
        f"{len(expected.scores):,} local labels cannot support {policy} with confidence {1 - policy.delta:g} ({lack}); "
        "the threshold is where the local calibrator expects it, and nothing is guaranteed"
    )
    return replace(expected.threshold(replace(policy, delta=None)), wanted=policy), [warning]
