"""The calibrators against scikit-learn, planted maps and properties that must hold for any pairs."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from dupq.calibration.adaptation import adapt_calibrator
from dupq.calibration.calibrators import (
    METHODS,
    IsotonicCalibrator,
    SplineCalibrator,
    calibrator_from_dict,
    fit_calibrator,
)
from dupq.errors import InputError, ModelFolderError, NotEnoughLabelsError


def planted(n, seed=0, rate=lambda s: expit(2 * s - 0.5), scale=1.0, shift=0.0):
    rng = np.random.default_rng(seed)
    s = rng.normal(0, 1.5, n)
    return s * scale + shift, (rng.random(n) < rate(s)).astype(int)


@pytest.mark.parametrize("method", METHODS)
def test_each_recovers_the_truth_it_can_express(method):
    rate = (lambda s: expit(s / 0.6)) if method == "temperature" else (lambda s: expit(2 * s - 0.5))
    s, y = planted(40_000, rate=rate)
    calibrator = fit_calibrator(s, y, methods=[method])
    grid = np.linspace(-3, 3, 50)
    allowed = {"isotonic": 0.06, "spline": 0.03}.get(method, 0.015)
    assert np.abs(calibrator.probabilities(grid) - rate(grid)).max() < allowed
    assert calibrator.base_rate == y.mean()
    assert calibrator.pairs == 40_000


def test_platt_equals_unpenalised_logistic_regression():
    s, y = planted(4000)
    ours = fit_calibrator(s, y, methods=["platt"])
    theirs = LogisticRegression(C=1e10, tol=1e-10).fit(s[:, None], y)
    # The softened targets move the parameters by about 1 / n.
    assert ours.slope == pytest.approx(theirs.coef_[0, 0], rel=5e-3)
    assert ours.intercept == pytest.approx(theirs.intercept_[0], abs=5e-3)


def test_isotonic_stays_close_to_the_step_function():
    s, y = planted(5000)
    ours = fit_calibrator(s, y, methods=["isotonic"]).probabilities(s)
    theirs = IsotonicRegression(out_of_bounds="clip").fit(s, y).predict(s)
    assert np.abs(ours - theirs).mean() < 0.02


def test_beta_bends_where_platt_cannot():
    def rate(s):
        return expit(np.where(s < 0, 0.4 * s, 3 * s))

    s, y = planted(30_000, rate=rate)
    calibrator = fit_calibrator(s, y)
    assert calibrator.kind in ("beta", "spline", "isotonic")
    for method in ("beta", "spline"):
        assert calibrator.cv_losses[method] < calibrator.cv_losses["platt"] - 0.005
    assert set(calibrator.cv_losses) == set(METHODS)


def test_the_choice_is_by_held_out_loss():
    s, y = planted(2000)
    calibrator = fit_calibrator(s, y)
    assert calibrator.kind == min(calibrator.cv_losses, key=calibrator.cv_losses.get)
    assert calibrator.kind != "temperature"
    # On a cosine the temperature cannot say "less likely than not" at all.
    assert fit_calibrator(np.abs(s), y, methods=["temperature"]).probabilities(np.abs(s)).min() >= 0.5


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(40, 150),
    seed=st.integers(0, 10_000),
    method=st.sampled_from(METHODS),
    digits=st.integers(0, 4),
    scale=st.sampled_from([0.01, 1.0, 300.0]),
)
def test_any_calibrator_rises_is_finite_and_survives_json(n, seed, method, digits, scale):
    s, y = planted(n, seed)
    s, y = np.round(s, digits) * scale, np.concatenate([[0] * 10, [1] * 10, y[20:]])
    s[:20] = np.sort(s[:20])
    calibrator = fit_calibrator(s, y, methods=[method])
    grid = np.sort(np.concatenate([s, np.linspace(-10, 10, 300) * scale]))
    odds = calibrator.log_odds(grid)
    assert np.isfinite(odds).all()
    assert (np.diff(odds)[np.diff(grid) > 1e-9 * scale] > 0).all()
    again = calibrator_from_dict(json.loads(json.dumps(calibrator.to_dict())))
    assert again == calibrator
    np.testing.assert_array_equal(again.log_odds(grid), odds)
    inside = calibrator.probabilities(s)
    assert inside.min() > 0
    assert inside.max() < 1


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.sampled_from([1e-3, 20.0]), shift=st.sampled_from([-5.0, 0.7, 100.0]))
@pytest.mark.parametrize("method", ["platt", "beta", "spline", "isotonic"])
def test_an_affine_change_of_the_scale_changes_no_probability(method, seed, scale, shift):
    s, y = planted(200, seed)
    plain = fit_calibrator(s, y, methods=[method]).probabilities(s)
    moved = fit_calibrator(s * scale + shift, y, methods=[method]).probabilities(s * scale + shift)
    np.testing.assert_allclose(moved, plain, atol=2e-4)


def test_the_base_rate_shifts_the_log_odds():
    s, y = planted(500)
    calibrator = fit_calibrator(s, y, methods=["platt"])
    moved = calibrator.log_odds(s, 0.01) - calibrator.log_odds(s)
    np.testing.assert_allclose(moved, logit(0.01) - logit(y.mean()))
    assert calibrator.probabilities(s, y.mean()) == pytest.approx(calibrator.probabilities(s))
    assert calibrator.probabilities([]).shape == (0,)


def test_pairs_of_one_question_group_are_refused():
    rng = np.random.default_rng(0)
    s = rng.normal(size=400)
    y = (rng.random(400) < 1 / (1 + np.exp(-s))).astype(int)
    with pytest.raises(InputError, match="two question groups or more, got one"):
        fit_calibrator(s, y, np.zeros(400))
    local = adapt_calibrator(fit_calibrator(s, y), s, y, np.zeros(400))
    assert local.kind == "adapted"


def test_folds_hold_whole_groups():
    # Twenty groups of equal scores: a fold that split them would let isotonic learn each group's own share by heart.
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 100)
    s, y = rng.normal(size=20)[groups], (rng.random(20) < 0.5).astype(int)[groups]
    y[groups == np.argmin(s.reshape(20, 100)[:, 0])] = 0
    s = s + y * 0.3
    grouped = fit_calibrator(s, y, groups).cv_losses["isotonic"]
    alone = fit_calibrator(s, y).cv_losses["isotonic"]
    assert alone < grouped - 0.05


def test_separated_classes_give_finite_slopes():
    calibrator = fit_calibrator(np.repeat([-1.0, 1.0], 50), np.repeat([0, 1], 50))
    assert 0.9 < calibrator.probabilities([1.0])[0] < 1


def test_isotonic_interpolates_between_its_knots():
    calibrator = IsotonicCalibrator(base_rate=0.5, knots=(0.0, 1.0), values=(-1.0, 1.0), slope=2.0)
    assert calibrator.log_odds([-1, 0, 0.25, 1, 2]).tolist() == [-3, -1, -0.5, 1, 3]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"scores": [np.nan] + [0.0] * 39}, InputError, "first: pair 1"),
        ({"labels": [1] * 40}, InputError, "all 40 pairs are duplicates"),
        ({"labels": [1] * 39}, InputError, r"labels must have the shape \(40,\)"),
        ({"labels": [0.5] * 40}, InputError, "neither 0 nor 1"),
        ({"methods": ["magic"]}, InputError, "one or more of temperature"),
        ({"methods": []}, InputError, "one or more of"),
        ({"scores": -np.arange(40.0)}, InputError, "do not have higher scores"),
        ({"scores": np.zeros(40)}, InputError, "do not have higher scores"),
    ],
)
def test_bad_input_is_named(change, error, words):
    given = {"scores": np.arange(40.0), "labels": np.repeat([0, 1], 20), "groups": None} | change
    with pytest.raises(error, match=words):
        fit_calibrator(**given)


def test_too_few_labels_say_how_many_more():
    with pytest.raises(NotEnoughLabelsError) as caught:
        fit_calibrator(np.arange(20.0), np.repeat([0, 1], [14, 6]))
    assert caught.value.needed == 4


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "magic"},
        {"kind": None},
        {"slope": "2"},
        {"slope": float("nan")},
        {"slope": -1.0},
        {"base_rate": 1.0},
        {"pairs": None},
        {"cv_losses": {"platt": "low"}},
    ],
)
def test_a_damaged_calibrator_is_refused(change):
    data = fit_calibrator(*planted(100), methods=["platt"]).to_dict()
    with pytest.raises(ModelFolderError):
        calibrator_from_dict(data | change)
    for nothing in (None, [], "platt", {}):
        with pytest.raises(ModelFolderError):
            calibrator_from_dict(nothing)


def test_a_spline_is_straight_between_its_knots():
    calibrator = SplineCalibrator(base_rate=0.5, knots=(0.0, 1.0), slopes=(2.0, 0.5, 3.0), intercept=-1.0)
    assert calibrator.log_odds([-1, 0, 0.5, 1, 2]).tolist() == [-3, -1, -0.75, -0.5, 2.5]


def test_a_spline_finds_an_s_shape_that_two_parameters_cannot():
    def rate(s):
        return expit(0.3 * s + 1.5 * np.tanh(3 * s))

    calibrator = fit_calibrator(*planted(8000, rate=rate))
    assert calibrator.kind == "spline"
    assert calibrator.cv_losses["spline"] < min(calibrator.cv_losses[name] for name in ("platt", "beta")) - 0.001


@pytest.mark.parametrize(
    "change",
    [{"knots": [1.0, 1.0]}, {"slopes": [1.0, 0.0, 1.0]}, {"slopes": [1.0]}, {"knots": []}, {"intercept": None}],
)
def test_a_damaged_spline_is_refused(change):
    good = SplineCalibrator(base_rate=0.5, pairs=9, knots=(0.0, 1.0), slopes=(2.0, 0.5, 3.0), intercept=-1.0).to_dict()
    assert calibrator_from_dict(good).kind == "spline"
    with pytest.raises(ModelFolderError):
        calibrator_from_dict(good | change)


@pytest.mark.parametrize("change", [{"knots": [1.0, 1.0]}, {"values": [2.0, 1.0]}, {"knots": [1.0]}, {"slope": 0.0}])
def test_a_damaged_isotonic_calibrator_is_refused(change):
    good = IsotonicCalibrator(base_rate=0.5, pairs=9, knots=(0.0, 1.0), values=(-1.0, 1.0), slope=2.0).to_dict()
    assert calibrator_from_dict(good).kind == "isotonic"
    with pytest.raises(ModelFolderError):
        calibrator_from_dict(good | change)
