"""Re-basing against Bayes' theorem; the label-free base rate and the drift monitor against planted changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from dupq.calibration.prior_shift import (
    ScoreReference,
    adjust_prior,
    attainable_error,
    effective_pairs,
    estimate_base_rate,
)
from dupq.decisions.drift import DriftMonitor
from dupq.decisions.threshold_table import build_threshold_table
from dupq.errors import InputError

RATES = st.floats(0.001, 0.999)


def draw(n, base_rate, seed, shift=0.0, gap=2.5):
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < base_rate).astype(int)
    return rng.normal(y * gap + shift, 1), y


def reference(n=6000, base_rate=0.4, seed=0):
    return build_threshold_table(*draw(n, base_rate, seed)).score_reference()


@given(p=st.floats(0.0, 1.0), a=RATES, b=RATES, c=RATES)
def test_rebasing_composes_returns_and_keeps_certainty(p, a, b, c):
    there = adjust_prior([p], a, b)
    assert adjust_prior(there, b, a) == pytest.approx([p], abs=1e-9)
    assert adjust_prior(there, b, c) == pytest.approx(adjust_prior([p], a, c), abs=1e-9)
    assert adjust_prior([0.0, 1.0], a, b).tolist() == [0.0, 1.0]
    assert adjust_prior([a], a, b) == pytest.approx([b])


def test_rebasing_is_bayes_theorem():
    # 0.8 at 50 % means a likelihood ratio of 4; at 1 % that is 0.04 / (0.04 + 0.99).
    assert adjust_prior([0.8], 0.5, 0.01) == pytest.approx([0.04 / 1.03])
    assert adjust_prior([], 0.5, 0.1).shape == (0,)
    for bad in (0, 1, -0.1, float("nan")):
        with pytest.raises(InputError, match="base_rate"):
            adjust_prior([0.5], 0.5, bad)
    with pytest.raises(InputError, match="outside"):
        adjust_prior([1.5], 0.5, 0.1)


def test_the_reference_holds_every_pair_once():
    s, y = draw(3000, 0.3, 1)
    ref = build_threshold_table(s, y).score_reference()
    k = len(ref.duplicates)
    assert k == len(ref.edges) + 1
    assert np.bincount(ref.bin(s[y == 1]), minlength=k).tolist() == list(ref.duplicates)
    assert np.bincount(ref.bin(s[y == 0]), minlength=k).tolist() == list(ref.distinct)
    assert ref.base_rate == pytest.approx(y.mean())
    few = build_threshold_table([0.0, 0, 1, 1, 2], [0, 0, 1, 0, 1]).score_reference()
    assert (few.duplicates, few.distinct) == ((0, 1, 1), (2, 1, 0))
    with pytest.raises(InputError, match="all scores of the reference"):
        build_threshold_table([1.0, 1.0], [0, 1]).score_reference()


@pytest.mark.parametrize("rate", [0.03, 0.1, 0.4, 0.8])
def test_the_base_rate_is_found_without_labels(rate):
    s, y = draw(5000, rate, 3)
    estimate = estimate_base_rate(s, reference(), draws=100)
    assert estimate.rate == pytest.approx(y.mean(), rel=0.2)
    assert estimate.low < y.mean() < estimate.high
    assert estimate.reliable
    assert "UNRELIABLE" not in str(estimate)


def test_no_estimate_is_surer_than_its_information_allows():
    # Scores that tell the two kinds apart without fail: what is left is the draw of their number, p (1 - p) / n.
    clear = ScoreReference(edges=(0.0,), duplicates=(0, 100), distinct=(100, 0))
    assert attainable_error(0.2, 400, clear) == pytest.approx(np.sqrt(0.2 * 0.8 / 400))
    alike = ScoreReference(edges=(0.0,), duplicates=(50, 50), distinct=(500, 500))
    assert attainable_error(0.2, 400, alike) == np.inf
    # Estimates from scores that overlap scatter as much as that, and not much more.
    ref = reference()
    rates = [estimate_base_rate(draw(1000, 0.05, seed)[0], ref, draws=2).rate for seed in range(60)]
    assert 0.8 < np.std(rates) / attainable_error(0.05, 1000, ref) < 1.5
    rare = estimate_base_rate(draw(1000, 0.01, 7)[0], ref, draws=50)
    assert rare.attainable == pytest.approx(attainable_error(rare.rate, 1000, ref))
    assert "no estimate of such a rate" in rare.reason
    assert "no estimate" not in estimate_base_rate(draw(5000, 0.4, 7)[0], ref, draws=50).reason


def test_the_estimate_maximises_the_likelihood():
    # Three bins; the slow way is a grid over the rate.
    ref = ScoreReference(edges=(0.0, 1.0), duplicates=(10, 20, 70), distinct=(60, 30, 10))
    live = np.repeat([-1.0, 0.5, 2.0], [50, 25, 25])
    ones, zeros = (np.array(x) + 0.5 for x in (ref.duplicates, ref.distinct))
    ones, zeros = ones / ones.sum(), zeros / zeros.sum()
    grid = np.linspace(0.001, 0.999, 999)
    fit = [np.sum(np.array([50, 25, 25]) * np.log(r * ones + (1 - r) * zeros)) for r in grid]
    # The pseudo-counts are of 20 bins, 17 of them empty, so the two agree to a few hundredths.
    assert estimate_base_rate(live, ref, draws=10).rate == pytest.approx(grid[np.argmax(fit)], abs=0.03)


def test_other_shapes_are_not_believed():
    for s in (draw(3000, 0.3, 5, shift=1.0)[0], draw(3000, 0.3, 5)[0] * 1.7, np.full(500, 1.2)):
        estimate = estimate_base_rate(s, reference(), draws=200)
        assert not estimate.reliable
        assert estimate.p_value < 0.01
        assert str(estimate).startswith("UNRELIABLE")
        assert "label some" in estimate.reason


def test_groups_widen_the_interval_of_the_estimate():
    s, _ = draw(400, 0.4, 1)
    copied, keys = np.repeat(s, 8), np.repeat(np.arange(400), 8)
    alone = estimate_base_rate(copied, reference(), draws=100)
    grouped = estimate_base_rate(copied, reference(), groups=keys, draws=100)
    assert alone.rate == grouped.rate
    assert grouped.high - grouped.low > 1.5 * (alone.high - alone.low)
    assert effective_pairs(copied, keys) == pytest.approx(400, rel=0.02)


def test_too_few_pairs_are_refused():
    with pytest.raises(InputError, match="49 pairs"):
        estimate_base_rate(np.zeros(49), reference())
    with pytest.raises(InputError, match="49 pairs"):
        DriftMonitor(reference()).check(np.zeros(49))
    with pytest.raises(InputError, match="false-alarm rate"):
        DriftMonitor(reference(), false_alarm_rate=0).check(np.zeros(50))


def test_no_alarm_where_nothing_changed():
    result = DriftMonitor(reference(), draws=500).check(draw(3000, 0.4, 9)[0])
    assert not result.alarm
    assert result.ks < result.ks_limit
    assert result.psi < result.psi_limit
    assert "Nothing to do" in str(result)


def test_a_changed_base_rate_is_told_from_another_kind_of_pair():
    monitor = DriftMonitor(reference(), draws=500)
    s, y = draw(3000, 0.1, 9)
    mix = monitor.check(s)
    assert mix.alarm
    assert mix.base_rate.reliable
    assert mix.base_rate.rate == pytest.approx(y.mean(), abs=0.015)
    assert "state the new base rate" in mix.advice
    kind = monitor.check(draw(3000, 0.4, 9, gap=1.2)[0])
    assert kind.alarm
    assert not kind.base_rate.reliable
    assert "label some of them" in kind.advice
    assert kind.to_dict()["base_rate"]["reliable"] is False


def test_thin_tails_are_seen_by_the_stability_index():
    # A tenth of the pairs leave the middle of the lowest decile for below it all: the distance stays under its limit.
    ref = ScoreReference(edges=tuple(float(x) for x in range(1, 100)), duplicates=(30,) * 100, distinct=(30,) * 100)
    rng = np.random.default_rng(0)
    s = rng.uniform(0, 100, 1500)
    s = s[(s > 8) | (rng.random(len(s)) < 0.35)]
    result = DriftMonitor(ref, draws=2000).check(s)
    assert result.psi > result.psi_limit
    assert result.alarm


@pytest.mark.slow
def test_false_alarms_come_at_the_stated_rate():
    """Reference and live sample are both drawn anew each time, the live one in groups of three copies."""
    runs, rate, alarms = 300, 0.05, 0
    for seed in range(runs):
        ref = reference(1500, 0.4, seed=2 * seed)
        s = np.repeat(draw(500, 0.4, 2 * seed + 1)[0], 3)
        keys = np.repeat(np.arange(500), 3)
        alarms += DriftMonitor(ref, rate, draws=200, seed=seed).check(s, keys).alarm
    assert binom.ppf(0.001, runs, rate / 2) <= alarms <= binom.ppf(0.999, runs, rate)


@pytest.mark.slow
def test_base_rate_intervals_cover_and_the_shape_test_keeps_its_level():
    runs, hits, refused = 200, 0, 0
    for seed in range(runs):
        s, _ = draw(1500, 0.15, 2 * seed + 1)
        estimate = estimate_base_rate(s, reference(1500, 0.4, seed=2 * seed), level=0.05, draws=200, seed=seed)
        hits += estimate.low <= 0.15 <= estimate.high
        refused += not estimate.reliable
    assert hits >= binom.ppf(0.001, runs, 0.94)
    assert refused <= binom.ppf(0.999, runs, 0.05)
