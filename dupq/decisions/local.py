"""Moderators' verdicts: a shipped calibrator and rule fitted to a user's own forum from a few dozen labels.

The network stays as it is. The calibrator is a Platt map of the shipped log-odds, drawn towards the shipped one by a
Gaussian prior (Platt scaling as maximum a posteriori): with few labels it stays close, with many the labels decide.
What few labels leave open then draws its probabilities towards even odds, by the moderation of MacKay (1992).
Thresholds come from local evidence where that can support what they promise. Where it cannot, they are put where the
local calibrator expects what was asked for; then they promise nothing, and say so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import expit

from dupq.decisions import checks
from dupq.decisions.calibration import (
    FEWEST_OF_EACH,
    Calibrator,
    LocalCalibrator,
    fit_calibrator,
    group_folds,
    total_loss,
)
from dupq.decisions.evidence import Evidence, gather_evidence
from dupq.decisions.policies import Policy, Threshold, best_cut, choose_threshold, policy_values
from dupq.decisions.thresholds import DecisionRule, lower_of
from dupq.errors import InputError, NotEnoughLabelsError

Floats = NDArray[np.float64]

SLOPE_PRIOR = 0.5
INTERCEPT_PRIOR = 2.0
LEAST_SLOPE = 0.01
FEWEST_LABELS = 20
ENOUGH_LABELS = 300


@dataclass(frozen=True, slots=True)
class LocalFit:
    """A calibrator and a rule for one place.

    Attributes:
        calibrator: Its base rate is the local one, as the labels and the scores have it.
        rule: Its `warning` says what could not be promised.
    """

    calibrator: Calibrator
    rule: DecisionRule


def refit(
    calibrator: Calibrator,
    rule: DecisionRule,
    scores: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    seed: int = 0,
    date: str | None = None,
    data_fingerprint: str = "",
    scorer_fingerprint: str = "",
) -> LocalFit:
    """Fits a shipped calibrator and rule to local labels, in the mix that will be judged.

    The calibrator: local log-odds = slope * shipped log-odds + intercept, with slope ~ N(1, 0.5) and
    intercept ~ N(0, 2), the maximum a posteriori with Platt's softened labels; moderated, which is to say that the
    log-odds of each local pair are divided by sqrt(1 + pi/8 * their variance under the Laplace approximation of the
    posterior), and the line nearest to those is taken. The slope is held at 0.01 or more. From 300 labels on, a
    calibrator fitted to the local pairs alone takes its place if its cross-validated log loss over question groups is
    lower.

    The rule: the shipped policies. A promise is tested on local evidence as `choose_threshold` does. A policy without
    a promise is chosen on local evidence from 300 labels on; below, and for a promise that the evidence cannot
    support, the threshold is put where the local calibrator's probabilities of the local pairs expect what was asked.

    Args:
        calibrator: The shipped one; of one that was refitted before, what it was made from.
        rule: The shipped one.
        scores: Raw scores (n,) by the same scorer, n >= 20.
        labels: 0 or 1 (n,); one kind alone will do.
        groups: Question group keys (n,); None: each pair is its own group.
        seed: Of folds, and of the draw of one pair a group.
        date, data_fingerprint, scorer_fingerprint: Kept with the thresholds.

    Raises:
        NotEnoughLabelsError: Fewer than 20 labels.
        InputError: Scores that are not finite, lengths that differ, labels other than 0 and 1.
    """
    s = checks.checked_scores(scores)
    values = np.asarray(labels)
    if len(s) < FEWEST_LABELS:
        raise NotEnoughLabelsError(
            f"{len(s)} local labels say too little",
            needed=FEWEST_LABELS - len(s),
            mend=f"label {FEWEST_LABELS} pairs or more; 50 make a difference",
        )
    if values.shape != (len(s),) or not np.isin(values, (0, 1)).all():
        raise InputError("local labels are not one 0 or 1 a score", mend="leave out the pairs that have no label")
    y = values.astype(np.float64)
    g = checks.checked_groups(groups, len(s))
    shipped = calibrator.shipped if isinstance(calibrator, LocalCalibrator) else calibrator
    fitted = _fit_local(shipped, s, y, g, seed)
    about: dict[str, Any] = {
        "date": date or datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "data_fingerprint": data_fingerprint,
        "scorer_fingerprint": scorer_fingerprint,
    }
    evidence = gather_evidence(s, y, g, seed=seed, **about) if 0 < y.sum() < len(y) else None
    expected = _Expected(s, fitted.probabilities(s), int(g.max()) + 1, about)
    duplicate, warnings = _local_threshold(rule.duplicate.policy, evidence, expected)
    distinct = None
    if rule.distinct is not None:
        found, more = _local_threshold(rule.distinct.policy, evidence, expected)
        distinct = lower_of(found, duplicate)
        warnings += more
    return LocalFit(fitted, DecisionRule(duplicate, distinct, evidence, "; ".join(warnings) or None))


def _fit_local(shipped: Calibrator, s: Floats, y: Floats, g: NDArray[np.int64], seed: int) -> Calibrator:
    local = _map_platt(shipped, s, y)
    if len(s) < ENOUGH_LABELS or min(y.sum(), len(y) - y.sum()) < FEWEST_OF_EACH:
        return local
    try:
        fresh = fit_calibrator(s, y, g, seed=seed)
    except InputError:  # the scores fall where they should rise: only the prior keeps a map of them rising
        return local
    fold = group_folds(g, 5, seed)
    loss = 0.0
    for k in np.unique(fold):
        test = fold == k
        loss += total_loss(_map_platt(shipped, s[~test], y[~test]).log_odds(s[test]), y[test]) / len(s)
    losses = {"local": loss, **fresh.cv_losses}
    return replace(local if loss <= min(fresh.cv_losses.values()) else fresh, cv_losses=losses)


def _map_platt(shipped: Calibrator, s: Floats, y: Floats) -> LocalCalibrator:
    z = shipped.log_odds(s)
    x = np.stack([z, np.ones_like(z)], axis=1)
    width = np.array([SLOPE_PRIOR, INTERCEPT_PRIOR])

    def nearest(target: Floats, prior: float) -> Floats:
        def loss(beta: Floats) -> tuple[float, Floats]:
            odds, away = x @ beta, (beta - [1.0, 0.0]) / width
            slope = x.T @ (expit(odds) - target) + prior * away / width
            return total_loss(odds, target) + prior * float(away @ away) / 2, slope

        bounds = [(LEAST_SLOPE, None), (None, None)]
        return np.asarray(minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=bounds).x)

    ones = float(y.sum())
    likeliest = nearest(np.where(y == 1, (ones + 1) / (ones + 2), 1 / (len(y) - ones + 2)), prior=1.0)
    odds = x @ likeliest
    spread = expit(odds) * expit(-odds)
    covariance = np.linalg.inv((x * spread[:, None]).T @ x + np.diag(width**-2))
    variance = np.einsum("ij,jk,ik->i", x, covariance, x)
    found = nearest(expit(odds / np.sqrt(1 + np.pi / 8 * variance)), prior=0.0)
    rate = float(expit(x @ found).mean())
    return LocalCalibrator(
        base_rate=rate, pairs=len(s), shipped=shipped, slope=float(found[0]), intercept=float(found[1])
    )


@dataclass(frozen=True, slots=True)
class _Expected:
    """What the local calibrator expects of the local pairs; it stands in for evidence where there is too little."""

    scores: Floats
    probabilities: Floats
    groups: int
    about: dict[str, Any]

    def threshold(self, policy: Policy) -> Threshold:
        order = np.argsort(-self.scores, kind="stable")
        s, p = self.scores[order], self.probabilities[order]
        ends = np.append(np.flatnonzero(np.diff(s)), len(s) - 1)
        rate = float(p.mean())
        recall, false = np.cumsum(p)[ends] / p.sum(), np.cumsum(1 - p)[ends] / (1 - p).sum()
        values = policy_values(policy, recall, false, rate)
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
            passed=len(s),
            errors=round(len(s) * (rate * (1 - recall[index]) + (1 - rate) * false[index])),
            method="expected by the local calibrator, no bound",
            **self.about,
        )


def _local_threshold(policy: Policy, evidence: Evidence | None, expected: _Expected) -> tuple[Threshold, list[str]]:
    if policy.delta is None:
        if evidence is not None and evidence.pairs >= ENOUGH_LABELS:
            return choose_threshold(policy, evidence), []
        return expected.threshold(policy), []
    needed = None
    if evidence is not None:
        try:
            return choose_threshold(policy, evidence), []
        except NotEnoughLabelsError as error:
            needed = error.needed
    lack = f"about {needed:,} more are needed" if needed else "no number of labels like these would do"
    if evidence is None:
        lack = "they are all of one kind"
    warning = (
        f"{len(expected.scores):,} local labels cannot support {policy} with confidence {1 - policy.delta:g} ({lack}); "
        "the threshold is where the local calibrator expects it, and promises nothing"
    )
    return expected.threshold(replace(policy, delta=None)), [warning]
