"""The metrics against scikit-learn, slow loops and worked examples; the intervals against simulation."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from dupq.calibration.numerics import effective_size
from dupq.errors import InputError
from dupq.evaluation.metrics import (
    Metric,
    Scheme,
    bin_index,
    compute_metrics,
    ece_of_calibrated,
    expected_calibration_error,
    reliability,
)


def sample(n: int, seed: int = 0, groups: int | None = None, digits: int = 3):
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.4).astype(int)
    labels[:2] = 0, 1
    scores = np.round(rng.normal(labels * 1.5, 1), digits)
    probabilities = 1 / (1 + np.exp(-(1.3 * scores - 1)))
    return scores, probabilities, labels, rng.integers(groups or n, size=n)


@settings(max_examples=60, deadline=None)
@given(n=st.integers(4, 80), seed=st.integers(0, 10_000), digits=st.integers(0, 3))
def test_every_figure_equals_scikit_learn(n, seed, digits):
    scores, probabilities, labels, groups = sample(n, seed, digits=digits)
    cut = float(np.median(scores))
    got = compute_metrics(scores, probabilities, labels, groups, cut, resamples=1)
    flagged = scores >= cut
    expected = {
        "average_precision": reference.average_precision_score(labels, scores),
        "roc_auc": reference.roc_auc_score(labels, scores),
        "accuracy": reference.accuracy_score(labels, flagged),
        "f1": reference.f1_score(labels, flagged, zero_division=0),
        "precision": reference.precision_score(labels, flagged, zero_division=0),
        "recall": reference.recall_score(labels, flagged),
        "mcc": reference.matthews_corrcoef(labels, flagged),
        "brier": reference.brier_score_loss(labels, probabilities),
        "log_loss": reference.log_loss(labels, probabilities),
    }
    for name, value in expected.items():
        assert got[name].value == pytest.approx(value, abs=1e-12), name


@settings(max_examples=40, deadline=None)
@given(n=st.integers(5, 60), seed=st.integers(0, 10_000), bins=st.integers(2, 12))
def test_calibration_errors_equal_a_slow_loop(n, seed, bins):
    scores, p, y, groups = sample(n, seed, groups=max(2, n // 3))
    got = compute_metrics(scores, p, y, groups, None, resamples=1, bins=bins)
    for scheme in ("mass", "width"):
        index = bin_index(p, bins, scheme)
        ece = squared = noise = 0.0
        for b in set(index):
            inside = index == b
            gap = p[inside] - y[inside]
            ece += inside.mean() * abs(gap.mean())
            squared += inside.mean() * gap.mean() ** 2
            sums = [(gap[groups[inside] == g] - gap.mean()).sum() for g in set(groups[inside])]
            if len(sums) > 1:
                noise += inside.mean() * sum(x * x for x in sums) / inside.sum() ** 2 * len(sums) / (len(sums) - 1)
        assert got[f"ece_{scheme}"].value == pytest.approx(ece, abs=1e-12)
        if scheme == "mass":
            assert got["ece_debiased"].value == pytest.approx(max(squared - noise, 0) ** 0.5, abs=1e-9)
            assert got["brier_reliability"].value == pytest.approx(squared, abs=1e-12)
    parts = got["brier_reliability"].value - got["brier_resolution"].value + got["brier_uncertainty"].value
    assert parts == pytest.approx(got["brier"].value, abs=1e-12)


def test_a_resample_by_weights_equals_a_resample_by_copies():
    scores, p, y, groups = sample(300, 3, groups=40, digits=1)
    got = compute_metrics(scores, p, y, groups, 0.7, resamples=3, seed=5)
    rng = np.random.default_rng(5)
    keys = np.unique(groups)
    drawn = {"average_precision": [], "roc_auc": [], "f1": [], "log_loss": []}
    for _ in range(3):
        rows = np.concatenate([np.flatnonzero(groups == keys[k]) for k in rng.integers(len(keys), size=len(keys))])
        drawn["average_precision"].append(reference.average_precision_score(y[rows], scores[rows]))
        drawn["roc_auc"].append(reference.roc_auc_score(y[rows], scores[rows]))
        drawn["f1"].append(reference.f1_score(y[rows], scores[rows] >= 0.7))
        drawn["log_loss"].append(reference.log_loss(y[rows], p[rows]))
    for name, values in drawn.items():
        low, high = np.quantile(values, [0.025, 0.975])
        assert (got[name].low, got[name].high) == pytest.approx((low, high), abs=1e-12), name


def test_the_worked_example_of_two_bins():
    p = np.array([0.1, 0.1, 0.1, 0.1, 0.9, 0.9, 0.9, 0.9])
    y = np.array([0, 0, 0, 1, 1, 1, 1, 1])
    got = compute_metrics(p, p, y, None, 0.5, resamples=1, bins=2)
    assert got["ece_mass"].value == pytest.approx((0.15 + 0.1) / 2)
    assert got["ece_width"].value == pytest.approx((0.15 + 0.1) / 2)
    assert got["brier_reliability"].value == pytest.approx((0.15**2 + 0.1**2) / 2)
    assert got["accuracy"].value == 7 / 8


def test_equal_mass_bins_keep_equal_probabilities_together():
    p = np.array([0.2] * 7 + [0.4] * 2 + [0.8])
    assert [len(set(bin_index(p, 5, "mass")[p == value])) for value in (0.2, 0.4, 0.8)] == [1, 1, 1]
    assert set(bin_index(np.array([0.0, 0.49, 0.5, 1.0]), 2, "width")[[1, 2]]) == {0, 1}


def test_groups_widen_the_interval():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=60)
    groups = np.repeat(np.arange(60), 10)
    labels = (shared[groups] > 0).astype(int)
    scores = labels + rng.normal(size=600) + 2 * shared[groups] * rng.choice([-1, 1], 60)[groups]
    p = 1 / (1 + np.exp(-scores))
    alone = compute_metrics(scores, p, labels, None, 0.0)["roc_auc"]
    grouped = compute_metrics(scores, p, labels, groups, 0.0)["roc_auc"]
    assert alone.value == grouped.value
    assert grouped.high - grouped.low > 1.5 * (alone.high - alone.low)


def test_the_debiased_error_is_near_zero_where_the_plain_one_is_not():
    rng = np.random.default_rng(2)
    p = rng.random(3000)
    y = (rng.random(3000) < p).astype(int)
    got = compute_metrics(p, p, y, None, None, resamples=50)
    assert got["ece_mass"].value > 0.008
    assert got["ece_debiased"].low == 0.0
    off = compute_metrics(p, p**2, y, None, None, resamples=50)
    assert off["ece_debiased"].low > 0.1


def test_seeds_decide_the_intervals_alone():
    data = sample(200, 1)
    a, b, c = (compute_metrics(*data, 0.5, resamples=20, seed=seed) for seed in (1, 1, 2))
    assert a == b
    assert a != c
    assert {name: metric.value for name, metric in a.items()} == {name: metric.value for name, metric in c.items()}


def test_a_large_set_is_fast_enough():
    data = sample(21_000, 0, groups=14_000)
    start = time.process_time()
    compute_metrics(*data, 0.5, resamples=200)
    assert time.process_time() - start < 20


def test_effective_size():
    values = np.tile([0, 1], 50)
    assert effective_size(values, np.arange(100)) == pytest.approx(100, rel=0.02)
    assert effective_size(np.repeat(values, 4), np.repeat(np.arange(100), 4)) == pytest.approx(100, rel=0.02)
    assert effective_size(np.ones(10), np.repeat(np.arange(5), 2)) == pytest.approx(5)
    assert effective_size(np.array([0, 1, 1]), np.zeros(3, dtype=int)) == 1


def test_reliability_bins_hold_all_pairs_and_their_intervals_the_share():
    _, p, y, groups = sample(500, 4, groups=100)
    for scheme in ("mass", "width"):
        found = reliability(p, y, groups, bins=10, scheme=scheme)
        assert sum(b.pairs for b in found) == 500
        assert all(0 <= b.low <= b.observed <= b.high <= 1 for b in found)
        assert [b.probability for b in found] == sorted(b.probability for b in found)


def test_metric_reads_as_text_and_as_data():
    metric = Metric(0.5, 0.25, 0.75)
    assert str(metric) == "0.5000 [0.2500, 0.7500]"
    assert metric.to_dict() == {"value": 0.5, "low": 0.25, "high": 0.75}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scores": [0.1, float("nan"), 0.3]}, "first: pair 2"),
        ({"probabilities": [0.1, 0.2, 1.3]}, "outside"),
        ({"probabilities": [0.1, 0.2]}, "scores and probabilities must be of one length, got 3 and 2"),
        ({"labels": [0, 1, 2]}, "first: pair 3"),
        ({"labels": [1, 1, 1]}, "all 3 pairs are duplicates"),
        ({"labels": [0, 1]}, "labels must have the shape"),
        ({"groups": [0, 1]}, "groups must have the shape"),
        ({"scores": []}, "shape"),
        ({"bins": 1}, "bins"),
    ],
)
def test_bad_input_is_named(change, words):
    given = {"scores": [0.1, 0.2, 0.3], "probabilities": [0.1, 0.2, 0.3], "labels": [0, 1, 1], "groups": None}
    given |= {"threshold_score": 0.2} | change
    with pytest.raises(InputError, match=words):
        compute_metrics(**given)


@pytest.mark.slow
def test_intervals_cover_the_truth():
    """Pairs in groups of 1 to 5 that share an effect; truth from 400,000 pairs; 95 % intervals over 200 draws."""

    def draw(rng, n_groups):
        size = rng.integers(1, 6, n_groups)
        groups = np.repeat(np.arange(n_groups), size)
        effect = rng.normal(size=n_groups)[groups]
        labels = (rng.random(len(groups)) < 1 / (1 + np.exp(-effect))).astype(int)
        scores = labels * 1.5 + rng.normal(size=len(groups)) + 0.5 * effect
        return scores, 1 / (1 + np.exp(-(2.2 * scores - 1))), labels, groups

    truth = compute_metrics(*draw(np.random.default_rng(99), 130_000), 0.7, resamples=1)
    names = ("average_precision", "roc_auc", "f1", "precision", "mcc", "brier", "log_loss", "ece_debiased")
    hits = dict.fromkeys(names, 0)
    for seed in range(200):
        got = compute_metrics(*draw(np.random.default_rng(seed), 600), 0.7, resamples=200, seed=seed)
        for name in names:
            hits[name] += got[name].low <= truth[name].value <= got[name].high
    # 200 draws of a 95 % interval: below 178 hits in less than one case of a thousand at 94 %.
    assert all(count >= 178 for count in hits.values()), hits


def test_the_calibration_error_is_that_of_all_metrics() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(500)
    y = (rng.random(500) < p**2).astype(int)
    metrics = compute_metrics(p, p, y, None, None, resamples=0)
    for scheme in ("mass", "width"):
        assert expected_calibration_error(p, y, scheme=scheme) == pytest.approx(metrics[f"ece_{scheme}"].value)


@pytest.mark.parametrize("scheme", ["mass", "width"])
@pytest.mark.parametrize(("n", "power"), [(300, 1), (3000, 1), (3000, 6)])
def test_the_error_of_a_calibrated_model_is_that_of_a_simulation(n: int, power: int, scheme: Scheme) -> None:
    rng = np.random.default_rng(0)
    p = rng.random(n) ** power
    drawn = [expected_calibration_error(p, rng.random(n) < p, scheme=scheme) for _ in range(200)]
    assert ece_of_calibrated(p, scheme=scheme) == pytest.approx(np.mean(drawn), rel=0.06)


def test_certain_probabilities_have_no_noise() -> None:
    assert ece_of_calibrated([0.0, 1.0, 1.0]) == 0
