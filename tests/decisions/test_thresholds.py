"""Policies against slow loops and planted truths; the guarantees against simulation."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import binom, norm
from sklearn.metrics import accuracy_score, f1_score

from dupq.calibration.calibrators import PlattCalibrator
from dupq.calibration.numerics import effective_size
from dupq.decisions.decider import Decider
from dupq.decisions.decision_rule import (
    DecisionRule,
    choose_rule,
    fit_rule,
)
from dupq.decisions.threshold_table import (
    ThresholdTable,
    build_threshold_table,
    draw_one_per_group,
    lower_bound,
    upper_bound,
)
from dupq.decisions.thresholds import Policy, Threshold, choose_threshold
from dupq.errors import InputError, ModelFolderError, NotEnoughLabelsError

MIDDLE, SPREAD = 2.5, 1.0


def sample(n, seed=0, base_rate=0.4, digits=6, gap=MIDDLE):
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < base_rate).astype(int)
    y[:2] = 0, 1
    return np.round(rng.normal(y * gap, SPREAD), digits), y


def true_precision(cut, base_rate):
    found, false = base_rate * norm.sf(cut - MIDDLE), (1 - base_rate) * norm.sf(cut)
    return found / (found + false)


def test_bounds_are_clopper_pearson():
    # The bound is the share at which seeing so many hits or more has probability delta.
    low = float(lower_bound(45, 50, 0.05))
    assert binom.sf(44, 50, low) == pytest.approx(0.05)
    high = float(upper_bound(3, 50, 0.1))
    assert binom.cdf(3, 50, high) == pytest.approx(0.1)
    assert float(lower_bound(0, 10, 0.05)) == 0.0
    assert float(upper_bound(10, 10, 0.05)) == 1.0
    assert float(lower_bound(59, 59, 0.05)) == pytest.approx(0.05 ** (1 / 59))


@settings(max_examples=25, deadline=None)
@given(n=st.integers(6, 120), seed=st.integers(0, 10_000), digits=st.integers(0, 4))
def test_the_best_f1_accuracy_and_cost_are_found(n, seed, digits):
    s, y = sample(n, seed, digits=digits)
    table = build_threshold_table(s, y)
    every = np.unique(s)
    rule = {kind: choose_threshold(Policy.parse(kind), table) for kind in ("f1", "accuracy", "cost=3:1")}
    f1 = max(2 * ((s >= cut) & (y == 1)).sum() / ((s >= cut).sum() + y.sum()) for cut in every)
    assert f1_score(y, s >= rule["f1"].score) == pytest.approx(f1)
    assert rule["f1"].value == pytest.approx(f1)
    accuracy = max(((s >= cut) == y).mean() for cut in every)
    assert accuracy_score(y, s >= rule["accuracy"].score) == pytest.approx(accuracy)
    cost = min(np.mean(3 * ((s >= cut) & (y == 0)) + ((s < cut) & (y == 1))) for cut in every)
    assert rule["cost=3:1"].value == pytest.approx(cost)


def test_many_scores_are_thinned_with_little_loss():
    s, y = sample(20_000)
    table = build_threshold_table(s, y)
    assert len(table.cuts) <= 400
    every = np.quantile(s, np.linspace(0.01, 0.99, 300))
    best = max(2 * ((s >= cut) & (y == 1)).sum() / ((s >= cut).sum() + y.sum()) for cut in every)
    assert choose_threshold(Policy.max_f1(), table).value > best - 0.002
    assert list(table.cuts) == sorted(table.cuts, reverse=True)
    assert table.tp[-1] + table.fp[-1] == 20_000


def test_evidence_counts_equal_a_slow_loop():
    rng = np.random.default_rng(1)
    s, y = sample(300, 1, digits=1)
    groups = rng.integers(0, 90, 300)
    table = build_threshold_table(s, y, groups, seed=4)
    drawn = draw_one_per_group(np.unique(groups, return_inverse=True)[1], 4)
    assert sorted(groups[drawn]) == sorted(set(groups))
    for i, cut in enumerate(table.cuts):
        assert table.tp[i] == sum((s >= cut) & (y == 1))
        assert table.fp[i] == sum((s >= cut) & (y == 0))
        assert table.one_per_group_tp[i] == sum((s >= cut) & (y == 1) & drawn)
        assert table.one_per_group_fp[i] == sum((s >= cut) & (y == 0) & drawn)
        flagged = s >= cut
        parts = [(y[flagged], groups[flagged]), (flagged[y == 1], groups[y == 1])]
        parts += [(flagged[y == 0], groups[y == 0]), (flagged, groups)]
        for (values, of), name in zip(
            parts, ("effective_flagged", "effective_duplicates", "effective_distinct", "effective_pairs"), strict=True
        ):
            # Where nothing is flagged yet, the figure is that of the first pair.
            if name == "effective_flagged" or values.any():
                assert getattr(table, name)[i] == pytest.approx(effective_size(values, of) / len(values)), name
    assert (table.groups, table.pairs) == (len(set(groups)), 300)


def test_each_pair_of_a_group_is_drawn_as_often():
    groups = np.array([0, 0, 0, 1])
    hits = np.mean([draw_one_per_group(groups, seed) for seed in range(3000)], axis=0)
    assert hits == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1], abs=0.035)


def test_a_precision_guarantee_states_its_evidence():
    s, y = sample(4000)
    rule = fit_rule(
        s,
        y,
        None,
        Policy.precision(0.95),
        date="2026-01-01T00:00:00+00:00",
        data_fingerprint="d",
        scorer_fingerprint="s",
    )
    cut = rule.duplicate
    flagged = s >= cut.score
    assert cut.bound >= 0.95
    assert cut.value == pytest.approx(y[flagged].mean())
    assert (cut.n_evaluated, cut.n_errors) == (flagged.sum(), (y[flagged] == 0).sum())
    # The sequence may end before its last starting point, and then with a part of delta.
    levels = [0.05 * share for share in (1, 5 / 6, 2 / 3, 1 / 2)]
    bounds = [float(lower_bound(cut.n_evaluated - cut.n_errors, cut.n_evaluated, level)) for level in levels]
    assert any(cut.bound == pytest.approx(bound) for bound in bounds)
    assert (cut.data_fingerprint, cut.scorer_fingerprint, cut.date[:4]) == ("d", "s", "2026")
    assert rule.guarantee == (
        f"precision >= 0.95 with confidence 0.95 at base rate {y.mean():.3g} (one-sided Clopper-Pearson, fixed "
        f"sequence; {cut.n_evaluated:,} pairs, one per question group, {cut.n_errors} errors)"
    )
    assert fit_rule(s, y).guarantee == "no guarantee: chosen for the highest F1 on 4,000 pairs"


def test_a_stricter_guarantee_is_a_higher_cut():
    table = build_threshold_table(*sample(4000))
    cuts = [choose_threshold(Policy.precision(p), table).score for p in (0.8, 0.9, 0.95)]
    assert cuts == sorted(cuts)
    assert choose_threshold(Policy.precision(0.9, 0.001), table).score > cuts[1]
    lower = [choose_threshold(Policy.recall(r), table).score for r in (0.99, 0.95, 0.8)]
    assert lower == sorted(lower)


def test_a_cut_stays_near_another_as_far_as_its_guarantee_allows():
    table = build_threshold_table(*sample(4000))
    for policy, safer, bolder in ((Policy.precision(0.9), 0.5, -5.0), (Policy.recall(0.9), -0.5, 5.0)):
        furthest = choose_threshold(policy, table)
        wanted = furthest.score + safer
        kept = choose_threshold(policy, table, near=wanted)
        assert abs(kept.score - wanted) < 0.1
        assert kept.bound >= policy.level
        assert kept.score in table.cuts
        assert choose_threshold(policy, table, near=furthest.score + bolder) == furthest
    # Without a guarantee it stays where `near` is.
    cut = table.cuts[37]
    assert choose_threshold(Policy.max_f1(), table, near=cut + 1e-9).score == cut
    rule = choose_rule(table, Policy.precision(0.8), miss_rate=0.05)
    assert choose_rule(table, Policy.precision(0.8), miss_rate=0.05, near=rule) == rule
    stricter = choose_rule(table, Policy.precision(0.9), miss_rate=0.02)
    moved = choose_rule(table, Policy.precision(0.8), miss_rate=0.05, near=stricter)
    assert (moved.duplicate.score, moved.distinct.score) == (stricter.duplicate.score, stricter.distinct.score)


def test_large_groups_cannot_be_outvoted_by_small_ones():
    # Singles are clean; a few big groups are full of false flags, which one pair a group hardly shows.
    rng = np.random.default_rng(0)
    n, big = 2000, 20
    groups = np.concatenate([np.arange(n), np.repeat(np.arange(n, n + big), 60)])
    y = np.concatenate([rng.random(n) < 0.5, np.zeros(big * 60)]).astype(int)
    s = np.concatenate([3.0 * y[:n] + rng.normal(0, 0.5, n), rng.normal(3.0, 0.5, big * 60)])
    with pytest.raises(NotEnoughLabelsError):
        fit_rule(s, y, groups, Policy.precision(0.9))
    drawn = draw_one_per_group(groups, 0)
    assert fit_rule(s[drawn], y[drawn], None, Policy.precision(0.9)).duplicate.bound >= 0.9


def test_another_base_rate_is_accounted_for():
    s, y = sample(30_000, 3)
    table = build_threshold_table(s, y)
    cuts = {rate: choose_threshold(Policy.precision(0.9), table, rate) for rate in (None, 0.4, 0.1, 0.06)}
    assert cuts[0.06].score > cuts[0.1].score > cuts[None].score
    assert cuts[0.4].score >= cuts[None].score
    for rate in (0.1, 0.06):
        assert true_precision(cuts[rate].score, rate) >= 0.9
        assert cuts[rate].base_rate == rate
        assert cuts[rate].rebased
        assert cuts[rate].value == pytest.approx(true_precision(cuts[rate].score, rate), abs=0.02)
    assert choose_threshold(Policy.recall(0.9), table, 0.01).score == choose_threshold(Policy.recall(0.9), table).score
    f1 = [choose_threshold(Policy.max_f1(), table, rate).score for rate in (0.5, 0.1, 0.01)]
    assert f1 == sorted(f1)


def test_weighting_to_a_base_rate_equals_repeating_pairs():
    s, y = sample(150, 5, digits=1)
    thrice = np.concatenate([s, np.repeat(s[y == 0], 2)]), np.concatenate([y, np.zeros(2 * (y == 0).sum(), dtype=int)])
    for policy in (Policy.max_f1(), Policy.max_accuracy(), Policy.min_cost(2, 1)):
        moved = choose_threshold(policy, build_threshold_table(s, y), thrice[1].mean())
        repeated = choose_threshold(policy, build_threshold_table(*thrice))
        assert (moved.score, moved.value) == pytest.approx((repeated.score, repeated.value))


@pytest.mark.parametrize("policy", [Policy.precision(0.95), Policy.recall(0.95)])
def test_too_few_labels_say_how_many_more(policy):
    s, y = sample(60, 2, gap=6)
    with pytest.raises(NotEnoughLabelsError, match="cannot support") as caught:
        fit_rule(s, y, None, policy)
    needed = caught.value.needed
    assert 0 < needed < 2000
    copies = math.ceil((60 + needed) / 60)
    assert fit_rule(np.tile(s, copies), np.tile(y, copies), None, policy).duplicate.bound >= 0.95


def test_a_guarantee_no_label_could_support_says_so():
    rng = np.random.default_rng(0)
    y = (rng.random(2000) < 0.3).astype(int)
    with pytest.raises(NotEnoughLabelsError, match="out of reach") as caught:
        fit_rule(np.round(rng.normal(0.3 * y, 1)), y, None, Policy.precision(0.99))
    assert caught.value.needed is None


def test_noise_at_the_very_top_does_not_end_the_search():
    s, y = sample(6000, 7, gap=4)
    y[np.argsort(-s)[:20]] = 0
    rule = fit_rule(s, y, None, Policy.precision(0.9))
    assert (s >= rule.duplicate.score).sum() > 1500


def test_three_answers_and_their_shares():
    s, y = sample(6000, 1)
    rule = fit_rule(s, y, None, Policy.precision(0.95), miss_rate=0.02)
    low, high = rule.distinct.score, rule.duplicate.score
    assert low < high
    around = [low - 1, low, (low + high) / 2, np.nextafter(high, 0), high, high + 1]
    assert rule.codes(around).tolist() == [0, 1, 1, 1, 2, 2]
    decider = Decider(PlattCalibrator(base_rate=0.4, slope=1.0, intercept=0.0), rule, 0.4)
    assert [str(decision) for decision in decider.decide(around)] == ["distinct", *["review"] * 3, *["duplicate"] * 2]
    unknown = np.array([True, True, False, False, True, False])
    assert decider.codes(around, unknown).tolist() == [0, 1, 1, 1, 1, 2]
    assert replace(decider, allow_unknown_language=True).codes(around, unknown).tolist() == [0, 1, 1, 1, 2, 2]
    assert (s[y == 1] < low).mean() <= 0.02
    own = rule.expected(y.mean())
    codes = rule.codes(s)
    for code, name in enumerate(("dropped", "review", "flagged")):
        assert own[name] == pytest.approx((codes == code).mean(), abs=1e-3)
    assert own["precision"] == pytest.approx(y[codes == 2].mean(), abs=1e-3)
    assert own["recall"] == pytest.approx((codes[y == 1] == 2).mean(), abs=1e-3)
    assert own["miss_rate"] == pytest.approx((codes[y == 1] == 0).mean(), abs=1e-3)
    assert rule.expected(0.01)["review"] == pytest.approx((codes[y == 0] == 1).mean(), abs=0.01)
    assert rule.expected(0.001)["precision"] < own["precision"]
    assert "dropped as distinct: recall >= 0.98" in rule.guarantee


def test_without_a_distinct_cut_nothing_goes_to_review():
    rule = fit_rule(*sample(500))
    assert rule.expected(0.1)["review"] == 0
    assert set(rule.codes(np.linspace(-5, 8, 99)).tolist()) == {0, 2}
    assert rule.codes([]).tolist() == []
    with pytest.raises(InputError, match="not finite"):
        rule.codes([float("nan")])


def test_cuts_that_would_cross_meet_instead():
    s, y = sample(6000, 1)
    rule = fit_rule(s, y, None, Policy.precision(0.6), miss_rate=0.3)
    assert rule.distinct.score == rule.duplicate.score
    assert rule.expected(0.4)["review"] == 0


def test_a_rule_moves_to_another_base_rate_from_its_own_evidence():
    s, y = sample(20_000, 4)
    rule = DecisionRule.from_dict(
        json.loads(json.dumps(fit_rule(s, y, None, Policy.precision(0.9), miss_rate=0.05).to_dict()))
    )
    moved = rule.at_base_rate(0.1)
    assert moved == fit_rule(s, y, None, Policy.precision(0.9), miss_rate=0.05, base_rate=0.1, date=rule.table.date)
    assert moved.duplicate.score > rule.duplicate.score
    with pytest.raises(NotEnoughLabelsError):
        rule.at_base_rate(0.00001)
    with pytest.raises(ModelFolderError, match="without its threshold table"):
        DecisionRule(rule.duplicate).expected(0.1)


def test_a_cut_is_stated_as_a_probability():
    calibrator = PlattCalibrator(base_rate=0.5, slope=2.0, intercept=-1.0)
    cut = fit_rule(*sample(300)).duplicate
    assert cut.probability(calibrator) == pytest.approx(expit(2 * cut.score - 1))
    assert cut.probability(calibrator, 0.1) < cut.probability(calibrator)


@pytest.mark.parametrize("text", ["f1", "accuracy", "cost=5:1", "recall>=0.9", "precision>=0.95"])
def test_rules_survive_json(text):
    s, y = sample(3000, 2)
    rule = fit_rule(s, y, np.arange(3000) // 2, Policy.parse(text), miss_rate=0.05)
    again = DecisionRule.from_dict(json.loads(json.dumps(rule.to_dict(), allow_nan=False)))
    assert again == rule
    assert again.guarantee == rule.guarantee


def test_policies_read_as_text():
    assert Policy.parse(" Precision >= .9 ", 0.1) == Policy.precision(0.9, 0.1)
    assert str(Policy.parse("cost=6:2")) == "least cost, a false flag costing 3 misses"
    for bad in ("", "f2", "precision>=1.5", "recall>=0", "cost=0:1", "precision=0.9"):
        with pytest.raises(InputError):
            Policy.parse(bad)
    with pytest.raises(InputError, match="delta"):
        Policy.precision(0.9, 0)


def test_damaged_rules_are_refused():
    s, y = sample(3000)
    good = fit_rule(s, y, None, Policy.precision(0.9), miss_rate=0.05).to_dict()
    cut, table = good["duplicate"], good["table"]
    for change in (
        {"duplicate": None},
        {"duplicate": cut | {"score": None}},
        {"duplicate": cut | {"score": float("inf")}},
        {"duplicate": cut | {"policy": {"kind": "luck", "level": 0.0}}},
        {"duplicate": cut | {"score": -100.0}},
        {"table": table | {"cuts": table["cuts"][1:]}},
        {"table": table | {"duplicates": 0}},
        {"table": {}},
        {"warning": 3},
    ):
        with pytest.raises(ModelFolderError):
            DecisionRule.from_dict(good | change)


def violations(draws, n, policy, truth, base_rate=None, groups=None, miss=None):
    failed = given_up = 0
    for seed in range(draws):
        s, y = sample(n, seed, digits=12)
        if groups is not None:
            s, y = np.repeat(s, groups), np.repeat(y, groups)
        keys = None if groups is None else np.repeat(np.arange(n), groups)
        try:
            cut = choose_threshold(policy, build_threshold_table(s, y, keys, seed=seed), base_rate).score
        except NotEnoughLabelsError:
            given_up += 1
            continue
        failed += truth(cut)
    return failed, given_up


@pytest.mark.slow
@pytest.mark.parametrize(("level", "delta"), [(0.9, 0.05), (0.95, 0.05), (0.9, 0.1), (0.95, 0.1)])
@pytest.mark.parametrize("groups", [None, 3])
def test_precision_guarantees_are_kept(level, delta, groups):
    draws, pairs = 800, {0.9: 600, 0.95: 2000}[level]
    failed, given_up = violations(
        draws, pairs, Policy.precision(level, delta), lambda cut: true_precision(cut, 0.4) < level, groups=groups
    )
    assert failed <= binom.ppf(0.999, draws, delta)
    assert given_up < draws / 10
    # A guarantee that never fails would give recall away.
    assert failed > 0


@pytest.mark.slow
def test_precision_guarantees_at_another_base_rate_are_kept():
    # Recall and false-positive rate are bounded apart here, which takes more labels than precision by itself.
    failed, given_up = violations(
        600, 6000, Policy.precision(0.9, 0.1), lambda cut: true_precision(cut, 0.1) < 0.9, base_rate=0.1
    )
    assert failed <= binom.ppf(0.999, 600, 0.1)
    assert given_up < 60


@pytest.mark.slow
def test_recall_guarantees_are_kept():
    failed, given_up = violations(600, 600, Policy.recall(0.9, 0.1), lambda cut: norm.sf(cut - MIDDLE) < 0.9)
    assert 0 < failed <= binom.ppf(0.999, 600, 0.1)
    assert given_up == 0


def test_evidence_and_thresholds_are_plain_records():
    table = build_threshold_table(*sample(50))
    assert ThresholdTable.from_dict(table.to_dict()) == table
    cut = choose_rule(table).duplicate
    assert Threshold.from_dict(cut.to_dict()) == cut
    assert table.rates(-100.0) == (1.0, 1.0)


@pytest.mark.parametrize("cuts", [[-5.0, 0, 1], [1.0, 1, 0], [0.0, 1, -1]])
def test_cuts_that_do_not_fall_are_refused(cuts: list[float]) -> None:
    with pytest.raises(InputError, match="cuts must fall"):
        build_threshold_table(*sample(400, 3), cuts=cuts)


def test_evidence_may_keep_the_cuts_of_other_scores() -> None:
    draw = np.random.default_rng(0)
    labels = np.arange(600) % 3 == 0
    scores = draw.normal(size=600) + 1.5 * labels
    first = build_threshold_table(scores, labels)
    moved = np.where(scores < -1, scores - 5, scores)
    second = build_threshold_table(moved, labels, cuts=first.cuts)
    assert second.cuts[:-1] == first.cuts[:-1]
    assert second.cuts[-1] == moved.min()
    assert second.tp[-1] == second.duplicates
    assert second.fp[-1] == second.distinct
    above = np.array(first.cuts) > -1
    assert np.array_equal(np.array(second.tp)[above], np.array(first.tp)[above])
    assert first.cuts == build_threshold_table(scores, labels, cuts=first.cuts).cuts
