"""The calibrator of judged candidates: against a slow weighted search, and what weights may and may not change."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, log_expit, logit

from dupq.calibration.adaptation import fit_map
from dupq.calibration.calibrators import CosineCalibrator, PlattCalibrator, calibrator_from_dict
from dupq.calibration.candidates import effective_number, fit_candidate_calibrator
from dupq.errors import InputError, ModelFolderError, NotEnoughLabelsError

PLAIN = PlattCalibrator(base_rate=0.37, pairs=7000, slope=1.5, intercept=-1.0)


def candidates(n: int, seed: int, slope: float = 0.8, intercept: float = -2.5):
    """Candidates of other log-odds than labelled pairs, drawn more often the higher they score."""
    rng = np.random.default_rng(seed)
    s = rng.normal(0.5, 2, 40 * n)
    drawn = np.clip(expit(s - 1), 0.02, 1)
    kept = np.flatnonzero(rng.random(len(s)) < drawn)[:n]
    y = (rng.random(n) < expit(slope * PLAIN.log_odds(s[kept]) + intercept)).astype(int)
    return s[kept], y, 1 / drawn[kept]


def slow_fit(s, y, w):
    """The moderated posterior mode, as `adapt_calibrator` describes it, pair by pair and by a plain search."""
    from scipy.optimize import minimize

    z, w = PLAIN.log_odds(s), w * effective_number(w) / w.sum()
    ones, zeros = sum(w[y == 1]), sum(w[y == 0])
    target = [(ones + 1) / (ones + 2) if label else 1 / (zeros + 2) for label in y]

    def loss(beta, target, prior):
        fit = -sum(
            weight * (t * log_expit(beta[0] * x + beta[1]) + (1 - t) * log_expit(-beta[0] * x - beta[1]))
            for x, t, weight in zip(z, target, w, strict=True)
        )
        return fit + prior * (((beta[0] - 1) / 0.5) ** 2 + (beta[1] / 2) ** 2) / 2

    def search(*about):
        options = {"xatol": 1e-8, "fatol": 1e-10, "maxiter": 4000}
        return minimize(loss, [1.0, -1.0], args=about, method="Nelder-Mead", options=options).x

    mode = search(target, 1)
    precision = np.diag([0.5**-2, 2.0**-2])
    for x, weight in zip(z, w, strict=True):
        p = expit(mode[0] * x + mode[1])
        precision += weight * p * (1 - p) * np.outer([x, 1], [x, 1])
    spread = np.linalg.inv(precision)
    moderated = [
        expit((mode[0] * x + mode[1]) / np.sqrt(1 + np.pi / 8 * np.array([x, 1]) @ spread @ np.array([x, 1])))
        for x in z
    ]
    return search(moderated, 0)


def test_it_is_the_weighted_optimum_of_a_slow_search() -> None:
    s, y, w = candidates(150, 3)
    found = fit_candidate_calibrator(PLAIN, s, y, w)
    assert (found.slope, found.intercept) == pytest.approx(slow_fit(s, y, w), abs=2e-4)
    assert found.base_rate == pytest.approx(np.average(found.probabilities(s), weights=w))
    assert found.pairs == 150


def test_weights_undo_the_draw() -> None:
    """Where the map is of another shape than the truth, only weighted pairs give the share of all candidates."""
    rng = np.random.default_rng(5)
    s = rng.normal(0.5, 2, 200_000)
    truth = np.where(s > 1, 0.4, 0.02)
    drawn = np.where(s > 1, 0.02, 0.005)
    kept = np.flatnonzero(rng.random(len(s)) < drawn)
    y = (rng.random(len(kept)) < truth[kept]).astype(int)
    weighted = fit_candidate_calibrator(PLAIN, s[kept], y, 1 / drawn[kept]).probabilities(s).mean()
    plain = fit_candidate_calibrator(PLAIN, s[kept], y).probabilities(s).mean()
    assert weighted == pytest.approx(truth.mean(), abs=0.02)
    assert abs(weighted - truth.mean()) < abs(plain - truth.mean())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(20, 200), st.floats(1e-6, 1e6))
def test_it_rises_and_the_unit_of_the_weights_has_no_effect(seed: int, n: int, unit: float) -> None:
    s, y, w = candidates(n, seed)
    y[:2] = 0, 1
    one = fit_candidate_calibrator(PLAIN, s, y, w)
    other = fit_candidate_calibrator(PLAIN, s, y, unit * w)
    grid = np.linspace(-8, 8, 50)
    assert (np.diff(one.log_odds(grid)) > 0).all()
    assert other.log_odds(grid) == pytest.approx(one.log_odds(grid), abs=1e-3)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_a_whole_weight_is_as_many_pairs(seed: int) -> None:
    s, y, _ = candidates(60, seed)
    times = np.random.default_rng(seed).integers(0, 4, 60)
    y[:2], times[:2] = (0, 1), 1
    weighted = fit_map(PLAIN, s, y.astype(float), times.astype(float))
    repeated = fit_map(PLAIN, np.repeat(s, times), np.repeat(y, times).astype(float))
    assert (weighted.slope, weighted.intercept) == pytest.approx((repeated.slope, repeated.intercept), abs=1e-3)


def test_equal_weights_are_no_weights_and_unequal_ones_count_for_fewer() -> None:
    s, y, w = candidates(200, 1)
    assert fit_candidate_calibrator(PLAIN, s, y, np.full(200, 7.0)) == fit_candidate_calibrator(PLAIN, s, y)
    assert effective_number(np.ones(200)) == 200
    assert effective_number(w) < 200
    assert effective_number(np.array([1.0, 0, 0])) == 1


def test_candidates_of_another_forum_are_the_prior() -> None:
    quora = fit_candidate_calibrator(PLAIN, *candidates(2000, 0))
    few = candidates(25, 1)
    few[1][:2] = 0, 1
    ours = fit_candidate_calibrator(quora, *few)
    assert ours.original == PLAIN
    rate = np.mean(expit(0.8 * PLAIN.log_odds(s := np.random.default_rng(9).normal(0.5, 2, 5000)) - 2.5))

    def away(calibrator):
        return abs(logit(calibrator.probabilities(s).mean()) - logit(rate))

    assert away(ours) < away(fit_candidate_calibrator(PLAIN, *few))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0] * 29 + [-1.0], "weights must be 0 or more, got -1 (pair 30)"),
        ([float("nan")] + [1.0] * 29, "weights must be 0 or more, got nan (pair 1)"),
        ([float("inf")] + [1.0] * 29, "got inf (pair 1)"),
        ([1.0] * 29, "weights must have the shape (30,), got (29,)"),
        ([0.0] * 30, "weights must not all be 0"),
        (["1"] * 30, "weights must be numbers"),
    ],
)
def test_bad_weights_are_refused(weights: object, message: str) -> None:
    s, y, _ = candidates(30, 0)
    with pytest.raises(InputError) as found:
        fit_candidate_calibrator(PLAIN, s, y, weights)
    assert message in str(found.value)


def test_both_labels_are_needed() -> None:
    s, y, _ = candidates(30, 0)
    for label in (0, 1):
        with pytest.raises(NotEnoughLabelsError, match="no judged candidate of a weight above 0"):
            fit_candidate_calibrator(PLAIN, s, np.full(30, label))
    y[:] = 0
    y[0] = 1
    with pytest.raises(NotEnoughLabelsError, match="is a duplicate"):
        fit_candidate_calibrator(PLAIN, s, y, [0.0] + [1.0] * 29)
    with pytest.raises(NotEnoughLabelsError, match="19 local labels"):
        fit_candidate_calibrator(PLAIN, s[:19], y[:19])


# ---- the cosine as a second input -----------------------------------------------------------------------------------


def near_pairs(n: int, seed: int, weight: float = 15.0):
    """Candidates whose log-odds rise with the cosine beside the score."""
    s, _, w = candidates(n, seed)
    rng = np.random.default_rng(seed + 1)
    c = np.clip(0.8 + 0.01 * s + rng.normal(0, 0.06, n), -1, 1)
    y = (rng.random(n) < expit(0.8 * PLAIN.log_odds(s) - 1 + weight * (c - 0.8))).astype(int)
    y[:2] = 0, 1
    return s, c, y, w


def slow_fit_of_two(s, c, y, w):
    """The moderated posterior mode with a cosine, pair by pair and by a plain search."""
    from scipy.optimize import minimize

    z, middle = PLAIN.log_odds(s), np.average(c, weights=w)
    w = w * effective_number(w) / w.sum()
    rows = np.stack([z, np.ones(len(z)), c - middle], axis=1)
    ones, zeros = sum(w[y == 1]), sum(w[y == 0])
    width = np.array([0.5, 2.0, 20.0])

    def search(target, prior):
        def loss(beta):
            beta = np.array([beta[0], beta[1], 10 * max(beta[2], 0)])
            odds = rows @ beta
            fit = -sum(w * (target * log_expit(odds) + (1 - target) * log_expit(-odds)))
            return fit + prior * sum(((beta - [1, 0, 0]) / width) ** 2) / 2

        options = {"xatol": 1e-9, "fatol": 1e-11, "maxiter": 9000, "maxfev": 9000}
        found = minimize(loss, [1.0, -1.0, 1.0], method="Nelder-Mead", options=options).x
        return np.array([found[0], found[1], 10 * max(found[2], 0)])

    mode = search(np.where(y == 1, (ones + 1) / (ones + 2), 1 / (zeros + 2)), 1)
    odds = rows @ mode
    spread = np.linalg.inv(np.diag(width**-2) + (rows.T * (w * expit(odds) * expit(-odds))) @ rows)
    variance = np.array([row @ spread @ row for row in rows])
    return (*search(expit(odds / np.sqrt(1 + np.pi / 8 * variance)), 0), middle)


def test_with_cosines_it_is_the_optimum_of_a_slow_search() -> None:
    s, c, y, w = near_pairs(200, 4)
    found = fit_candidate_calibrator(PLAIN, s, y, w, cosines=c)
    assert isinstance(found, CosineCalibrator)
    parameters = (found.slope, found.intercept, found.cosine_weight, found.cosine_centre)
    assert parameters == pytest.approx(slow_fit_of_two(s, c, y, w), rel=2e-3)
    assert found.base_rate == pytest.approx(np.average(found.probabilities(s, cosines=c), weights=w))


def test_it_finds_the_cosine_where_there_is_something_to_find() -> None:
    s, c, y, w = near_pairs(4000, 7)
    assert fit_candidate_calibrator(PLAIN, s, y, w, cosines=c).cosine_weight == pytest.approx(15, abs=3)
    s, c, y, w = near_pairs(4000, 8, weight=0)
    assert fit_candidate_calibrator(PLAIN, s, y, w, cosines=c).cosine_weight == pytest.approx(0, abs=3)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(20, 200), st.floats(-30, 30), st.floats(0.01, 0.99))
def test_it_rises_with_both_inputs(seed: int, n: int, weight: float, rate: float) -> None:
    s, c, y, w = near_pairs(n, seed, weight)
    found = fit_candidate_calibrator(PLAIN, s, y, w, cosines=c)
    grid, steps = np.linspace(-8, 8, 40), np.linspace(-1, 1, 40)
    assert (np.diff(found.log_odds(grid, rate, cosines=np.full(40, 0.7))) > 0).all()
    assert (np.diff(found.log_odds(np.zeros(40), rate, cosines=steps)) >= 0).all()
    again = calibrator_from_dict(found.to_dict())
    assert again == found
    assert np.array_equal(again.probabilities(grid, cosines=steps), found.probabilities(grid, cosines=steps))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.floats(-1, 1))
def test_a_constant_cosine_changes_nothing(seed: int, constant: float) -> None:
    s, y, w = candidates(150, seed)
    y[:2] = 0, 1
    found = fit_candidate_calibrator(PLAIN, s, y, w, cosines=np.full(150, constant))
    alone = fit_candidate_calibrator(PLAIN, s, y, w)
    assert found.log_odds(s, cosines=np.full(150, constant)) == pytest.approx(alone.log_odds(s), abs=2e-3)


def test_verdicts_of_a_forum_start_from_the_earlier_weight() -> None:
    s, c, y, w = near_pairs(2000, 3)
    first = fit_candidate_calibrator(PLAIN, s, y, w, cosines=c)
    few = near_pairs(25, 11)
    again = fit_candidate_calibrator(first, few[0], few[2], few[3], cosines=few[1])
    assert isinstance(first, CosineCalibrator)
    assert isinstance(again, CosineCalibrator)
    assert again.original == PLAIN
    assert again.cosine_centre == first.cosine_centre
    fresh = fit_candidate_calibrator(PLAIN, few[0], few[2], few[3], cosines=few[1])
    assert isinstance(fresh, CosineCalibrator)
    assert fresh.cosine_weight < again.cosine_weight
    with pytest.raises(InputError, match="cosines must be given"):
        fit_candidate_calibrator(first, few[0], few[2], few[3])


def test_bad_cosines_are_refused() -> None:
    s, c, y, w = near_pairs(30, 5)
    for bad, message in ((c[1:], "shape"), (20 * c, r"outside \[-1, 1\]"), (np.where(c > 0.8, np.nan, c), "outside")):
        with pytest.raises(InputError, match=message):
            fit_candidate_calibrator(PLAIN, s, y, w, cosines=bad)
    found = fit_candidate_calibrator(PLAIN, s, y, w, cosines=c)
    with pytest.raises(InputError, match="cosines must be given"):
        found.probabilities(s)
    assert PLAIN.probabilities(s, cosines=c).tolist() == PLAIN.probabilities(s).tolist()


@pytest.mark.parametrize("change", [{"cosine_weight": -1.0}, {"cosine_weight": None}, {"cosine_centre": 2.0}])
def test_a_damaged_cosine_is_refused(change) -> None:
    s, c, y, w = near_pairs(30, 6)
    data = fit_candidate_calibrator(PLAIN, s, y, w, cosines=c).to_dict()
    with pytest.raises(ModelFolderError):
        calibrator_from_dict({**data, **change})
    with pytest.raises(ModelFolderError):
        calibrator_from_dict({**data, "original": data})
