"""Adapting to local labels: shrinkage, the optimum against a slow search, and the guarantees of few labels."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest
from scipy.special import expit

from dupq.calibration.adaptation import adapt_calibrator
from dupq.calibration.calibrators import AdaptedCalibrator, PlattCalibrator, calibrator_from_dict
from dupq.decisions.adapted_rule import adapt_rule
from dupq.decisions.decision_rule import DecisionRule, fit_rule
from dupq.decisions.thresholds import Policy
from dupq.errors import InputError, ModelFolderError, NotEnoughLabelsError

SHIPPED = PlattCalibrator(base_rate=0.37, pairs=7000, slope=1.5, intercept=-1.0)


def world(n, seed, slope, intercept):
    """A place where the true log-odds are slope * shipped log-odds + intercept."""
    rng = np.random.default_rng(seed)
    s = rng.normal(0.5, 2, n)
    return s, (rng.random(n) < expit(slope * SHIPPED.log_odds(s) + intercept)).astype(int)


@cache
def rule(policy=None, miss_rate=None):
    return fit_rule(*world(6000, 0, 1, 0), None, policy, miss_rate=miss_rate)


def adapt(rule, scores, labels, **facts):
    """The local calibrator and rule."""
    local = adapt_calibrator(SHIPPED, scores, labels)
    return local, adapt_rule(rule, local, scores, labels, **facts)


def excess(calibrator, slope, intercept):
    """Mean loss over that of the truth, on a fresh draw."""
    s, _ = world(20_000, 77, slope, intercept)
    odds, p = calibrator.log_odds(s), expit(slope * SHIPPED.log_odds(s) + intercept)
    return float(np.mean(np.logaddexp(0, odds) - p * odds + p * np.log(p) + (1 - p) * np.log1p(-p)))


def test_few_labels_help_and_more_help_more():
    before = excess(SHIPPED, 0.6, -1.5)
    after = [
        np.mean([excess(adapt_calibrator(SHIPPED, *world(n, seed, 0.6, -1.5)), 0.6, -1.5) for seed in range(8)])
        for n in (50, 200, 1000)
    ]
    assert before > 4 * after[0]
    assert after[0] > after[1] > after[2]


def test_few_labels_do_little_harm_where_nothing_changed():
    worst = max(excess(adapt_calibrator(SHIPPED, *world(50, seed, 1, 0)), 1, 0) for seed in range(10))
    assert worst < 0.06


def test_the_map_is_what_is_stated():
    n = 60
    s, y = world(n, 4, 0.5, -1)
    z, ones = SHIPPED.log_odds(s), y.sum()
    soft = np.where(y == 1, (ones + 1) / (ones + 2), 1 / (n - ones + 2))
    # The slow way: the likeliest of a fine grid, the curvature there pair by pair, the nearest of a fine grid again.
    a, b = (part.ravel() for part in np.meshgrid(np.linspace(0.2, 1.2, 201), np.linspace(-2.5, 0.5, 301)))

    def loss(target):
        odds = np.outer(a, z) + b[:, None]
        return (np.logaddexp(0, odds) - target * odds).sum(axis=1)

    best = np.argmin(loss(soft) + (a - 1) ** 2 / (2 * 0.5**2) + b**2 / (2 * 2.0**2))
    precision = np.diag([1 / 0.5**2, 1 / 2.0**2])
    for one in z:
        p = expit(a[best] * one + b[best])
        precision += p * (1 - p) * np.outer([one, 1], [one, 1])
    covariance = np.linalg.inv(precision)
    moderated = []
    for one in z:
        variance = np.array([one, 1]) @ covariance @ np.array([one, 1])
        moderated.append(expit((a[best] * one + b[best]) / np.sqrt(1 + np.pi / 8 * variance)))
    nearest = np.argmin(loss(np.array(moderated)))
    found = adapt_calibrator(SHIPPED, s, y)
    assert (found.slope, found.intercept) == pytest.approx((a[nearest], b[nearest]), abs=0.015)
    assert 0 < found.slope < a[best]
    assert found.base_rate == pytest.approx(found.probabilities(s).mean())


def test_labels_that_contradict_the_score_leave_it_rising():
    s, _ = world(200, 1, 1, 0)
    found = adapt_calibrator(SHIPPED, s, (s < 0.5).astype(int))
    assert found.slope == pytest.approx(0.01)
    many, _ = world(400, 1, 1, 0)
    assert adapt_calibrator(SHIPPED, many, (many < 0.5).astype(int)).kind == "adapted"


def test_many_labels_of_another_shape_bring_a_fresh_calibrator():
    rng = np.random.default_rng(0)
    s = rng.normal(0, 2, 4000)
    y = (rng.random(4000) < np.where(s < 0, 0.05, 0.6)).astype(int)
    found = adapt_calibrator(SHIPPED, s, y)
    assert found.kind == "isotonic"
    assert found.cv_losses["isotonic"] < found.cv_losses["adapted"]


def test_a_guarantee_is_kept_local_where_labels_suffice():
    shipped = rule(Policy.precision(0.9), miss_rate=0.05)
    _, fit = adapt(shipped, *world(3000, 2, 0.8, -1), data_fingerprint="here")
    assert fit.warning is None
    assert fit.duplicate.policy == Policy.precision(0.9)
    assert fit.duplicate.bound >= 0.9
    assert fit.duplicate.data_fingerprint == "here"
    assert fit.duplicate.score > shipped.duplicate.score
    assert fit.distinct.policy == Policy.recall(0.95)


def test_few_labels_guarantee_nothing_and_say_so():
    s, y = world(50, 3, 0.8, -1)
    calibrator, fit = adapt(rule(Policy.precision(0.95), miss_rate=0.05), s, y)
    cut = fit.duplicate
    assert cut.bound is None
    assert cut.policy == Policy.precision(0.95, None)
    assert cut.guarantee == "no guarantee: chosen for the precision >= 0.95 on 50 pairs"
    assert "50 local labels cannot support precision >= 0.95 with confidence 0.95 (about" in fit.warning
    assert "recall >= 0.95" in fit.warning
    assert "WARNING" in fit.guarantee
    expected = calibrator.probabilities(s)
    assert expected[s >= cut.score].mean() >= 0.95
    assert fit.distinct.score <= cut.score
    assert DecisionRule.from_dict(json.loads(json.dumps(fit.to_dict()))) == fit


def test_a_guarantee_that_few_labels_could_not_support_is_tested_on_more():
    shipped = rule(Policy.precision(0.9), miss_rate=0.05)
    _, few = adapt(shipped, *world(50, 3, 0.8, -1))
    assert few.duplicate.wanted == Policy.precision(0.9)
    many = world(3000, 2, 0.8, -1)
    kept = DecisionRule.from_dict(json.loads(json.dumps(few.to_dict())))
    again, direct = (adapt(one, *many, date="2026-01-01T00:00:00+00:00")[1] for one in (kept, shipped))
    assert again == direct
    assert again.duplicate.bound >= 0.9
    assert again.warning is None
    assert "wanted" not in direct.duplicate.to_dict()


@pytest.mark.parametrize("policy", ["precision>=0.9", "f1"])
def test_a_threshold_of_expected_counts_stays_at_another_base_rate(policy):
    _, few = adapt(rule(Policy.parse(policy), miss_rate=0.05), *world(60, 3, 0.8, -1))
    moved = few.at_base_rate(0.2)
    assert moved.duplicate.score == few.duplicate.score
    assert "no guarantee at base rate 0.2" in moved.guarantee
    assert "rests on expected counts" in moved.guarantee
    assert moved.at_base_rate(None) == few


def test_policies_without_a_guarantee_follow_the_local_calibrator_until_labels_suffice():
    s, y = world(60, 5, 0.8, -1)
    calibrator, fit = adapt(rule(), s, y)
    cut = fit.duplicate
    p = np.sort(calibrator.probabilities(s))[::-1]
    best = max(2 * p[: k + 1].sum() / (k + 1 + p.sum()) for k in range(60))
    assert cut.value == pytest.approx(best)
    assert cut.method.startswith("expected by the local calibrator")
    assert adapt(rule(), *world(400, 5, 0.8, -1))[1].duplicate.method.startswith("chosen on all pairs")


def test_verdicts_of_one_kind_shift_the_base_rate_alone():
    s, _ = world(50, 3, 1, 0)
    calibrator, fit = adapt(rule(Policy.precision(0.9)), s, np.zeros(50, dtype=int))
    assert 0 < calibrator.base_rate < 0.2
    assert fit.table is None
    assert "all of one kind" in fit.warning


def test_refitting_again_starts_from_the_shipped_calibrator():
    first = adapt_calibrator(SHIPPED, *world(60, 1, 0.3, 1))
    data = world(80, 2, 0.6, -1)
    again = adapt_calibrator(first, *data)
    assert again.original == SHIPPED
    assert again == adapt_calibrator(SHIPPED, *data)


def test_a_local_calibrator_survives_json():
    found = adapt_calibrator(SHIPPED, *world(60, 1, 0.5, 1))
    assert isinstance(found, AdaptedCalibrator)
    again = calibrator_from_dict(json.loads(json.dumps(found.to_dict())))
    assert again == found
    for change in ({"slope": -1.0}, {"original": None}, {"original": {"kind": "adapted"}}):
        with pytest.raises(ModelFolderError):
            calibrator_from_dict(found.to_dict() | change)


def test_bad_verdicts_are_named():
    s, y = world(50, 1, 1, 0)
    with pytest.raises(NotEnoughLabelsError) as caught:
        adapt_calibrator(SHIPPED, s[:12], y[:12])
    assert caught.value.needed == 8
    with pytest.raises(InputError, match="labels must be 0 or 1"):
        adapt_calibrator(SHIPPED, s, y + 1)
    with pytest.raises(InputError, match="not finite"):
        adapt_calibrator(SHIPPED, np.append(s[1:], np.inf), y)
