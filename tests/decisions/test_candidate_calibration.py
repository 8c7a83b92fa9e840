"""The threshold of candidates against a slow search, and its place in the folder and in the decisions."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from dupq.calibration.calibrators import PlattCalibrator
from dupq.decisions.candidate_calibration import MAX_BLOCKS, CandidateCalibration, calibrate_candidates
from dupq.decisions.decider import Decider
from dupq.decisions.decision_rule import fit_rule
from dupq.decisions.thresholds import Policy
from dupq.errors import InputError, ModelFolderError

PLAIN = PlattCalibrator(base_rate=0.4, pairs=2000, slope=1.0, intercept=0.0)


def judged(n: int = 1000, seed: int = 0, intercept: float = -1.5) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    s = rng.normal(0, 2, n)
    y = (rng.random(n) < PLAIN.probabilities(1.2 * s + intercept)).astype(int)
    return s, y, rng.choice([1.0, 5.0, 20.0], n)


@pytest.fixture(scope="module")
def fitted() -> CandidateCalibration:
    return calibrate_candidates(PLAIN, *judged(), about="of a test")


def expected_precision(fitted: CandidateCalibration, threshold: float) -> float:
    s, _, w = judged()
    p = fitted.calibrator.probabilities(s)
    return float(np.average(p[p >= threshold], weights=w[p >= threshold]))


def test_the_threshold_is_the_lowest_of_the_expected_precision(fitted: CandidateCalibration) -> None:
    s, _, _ = judged()
    grid = np.sort(fitted.calibrator.probabilities(s))
    lowest = next(cut for cut in grid.tolist() if expected_precision(fitted, cut) >= 0.75)
    # Judged candidates are kept in blocks, so that it is right to a few of them.
    assert abs(np.searchsorted(grid, fitted.threshold) - np.searchsorted(grid, lowest)) <= 2 * 1000 / MAX_BLOCKS
    assert expected_precision(fitted, fitted.threshold) == pytest.approx(0.75, abs=0.02)
    assert fitted.policy == Policy.precision(0.75, delta=None)


def test_a_precision_out_of_reach_is_the_threshold(fitted: CandidateCalibration) -> None:
    hopeless = calibrate_candidates(PLAIN, *judged(seed=1, intercept=-8), policy="precision>=0.9")
    assert hopeless.calibrator.probabilities(hopeless.scores).max() < 0.9
    assert hopeless.threshold == 0.9


@pytest.mark.parametrize("policy", ["f1", "accuracy", "cost=3:1", "recall>=0.8"])
def test_other_policies_hold_on_the_expected_counts(fitted: CandidateCalibration, policy: str) -> None:
    other = fitted.with_policy(Policy.parse(policy))
    p, shares = other.calibrator.probabilities(other.scores), np.array(other.shares)

    def value(cut: float) -> float:
        flagged = p >= cut
        true, wrong, missed = shares @ (flagged * p), shares @ (flagged * (1 - p)), shares @ (~flagged * p)
        return float(
            {
                "f1": 2 * true / (2 * true + wrong + missed),
                "accuracy": 1 - wrong - missed,
                "cost": -(3 * wrong + missed),
                "recall": -cut if true / (true + missed) >= 0.8 - 1e-12 else -2,
            }[other.policy.kind]
        )

    best = max(value(cut) for cut in p) if policy != "recall>=0.8" else -max(c for c in p if value(c) > -2)
    assert value(other.threshold) == pytest.approx(best)


def test_no_guarantee_is_taken_from_a_policy(fitted: CandidateCalibration) -> None:
    assert fitted.with_policy(Policy.precision(0.9, delta=0.05)).policy.delta is None
    assert calibrate_candidates(PLAIN, *judged(), policy="precision>=0.9").policy.delta is None


def test_the_weights_of_the_blocks_are_those_of_the_candidates(fitted: CandidateCalibration) -> None:
    s, y, w = judged()
    assert sum(fitted.shares) == pytest.approx(1)
    assert np.dot(fitted.scores, fitted.shares) == pytest.approx(np.average(s, weights=w))
    assert (fitted.pairs, fitted.duplicates) == (1000, y.sum())
    w[y == 1] = 0
    w[np.flatnonzero(y)[:3]] = 1
    assert calibrate_candidates(PLAIN, s, y, w).duplicates == 3  # a pair of weight 0 is no evidence


def test_it_survives_json(fitted: CandidateCalibration) -> None:
    again = CandidateCalibration.from_dict(json.loads(json.dumps(fitted.to_dict())))
    assert again == fitted
    assert again.threshold == fitted.threshold


@pytest.mark.parametrize(
    "change",
    [
        {"calibrator": None},
        {"policy": {"kind": "luck", "level": 0.5}},
        {"policy": {"kind": "precision", "level": 2.0}},
        {"scores": [1.0, 2.0], "shares": [0.5, 0.5]},
        {"scores": [2.0, 1.0], "shares": [0.5, 0.6]},
        {"scores": [2.0, 1.0], "shares": [1.5, -0.5]},
        {"scores": [2.0], "shares": [0.5, 0.5]},
        {"scores": [], "shares": []},
        {"pairs": "many"},
        {"about": 7},
    ],
)
def test_damage_is_refused(fitted: CandidateCalibration, change: dict[str, Any]) -> None:
    with pytest.raises(ModelFolderError):
        CandidateCalibration.from_dict({**fitted.to_dict(), **change})


def test_candidates_are_decided_by_their_own_probability(fitted: CandidateCalibration) -> None:
    s, y, _ = judged(300, 4, intercept=0)
    rule = fit_rule(s, y, None, "f1", miss_rate=0.2)
    assert rule.distinct is not None
    plain = Decider(PLAIN, rule, PLAIN.base_rate)
    decider = Decider(fitted.calibrator, rule, fitted.calibrator.base_rate, candidates=fitted)
    p, codes = decider.probabilities(s), decider.codes(s)
    assert ((codes == 2) == (p >= fitted.threshold)).all()
    assert ((codes >= 1) == ((s >= rule.distinct.score) | (codes == 2))).all()
    assert (codes == 2).sum() < (plain.codes(s) == 2).sum()
    assert "no guarantee" in decider.guarantee
    assert f"1,000 judged candidates, {fitted.duplicates} of them duplicates: of a test" in decider.guarantee
    higher = decider.at(base_rate=0.6)
    assert higher.base_rate == 0.6
    assert higher.warning is None
    assert (higher.codes(s) == 2).sum() > (codes == 2).sum()
    by_hand = decider.at(threshold=0.3)
    assert set(by_hand.codes(s).tolist()) == {0, 2}
    assert ((by_hand.codes(s) == 2) == (p >= 0.3)).all()
    assert "set by hand" in by_hand.guarantee


# ---- with cosines ---------------------------------------------------------------------------------------------------


def near_judged(n: int = 1000, seed: int = 2) -> tuple[Any, Any, Any, Any]:
    s, _, w = judged(n, seed)
    rng = np.random.default_rng(seed + 100)
    c = np.clip(rng.normal(0.85, 0.05, n), -1, 1)
    y = (rng.random(n) < PLAIN.probabilities(s - 1 + 20 * (c - 0.85))).astype(int)
    return s, c, y, w


@pytest.fixture(scope="module")
def two() -> CandidateCalibration:
    s, c, y, w = near_judged()
    return calibrate_candidates(PLAIN, s, y, w, cosines=c, about="of a test")


@pytest.mark.parametrize("level", [0.5, 0.75])
def test_the_threshold_of_two_inputs_has_the_expected_precision(two: CandidateCalibration, level: float) -> None:
    s, c, _, w = near_judged()
    p = two.calibrator.probabilities(s, cosines=c)
    chosen = two.with_policy(Policy.precision(level, delta=None))
    flagged = p >= chosen.threshold
    assert 0 < flagged.sum() < len(p)
    assert np.average(p[flagged], weights=w[flagged]) == pytest.approx(level, abs=0.02)
    assert len(two.cosines) == len(two.scores) == len(two.shares)


def test_two_inputs_survive_json(two: CandidateCalibration) -> None:
    again = CandidateCalibration.from_dict(json.loads(json.dumps(two.to_dict())))
    assert again == two
    assert again.threshold == two.threshold


@pytest.mark.parametrize("change", [{"cosines": []}, {"cosines": [0.5]}, {"cosines": "x"}, {"cosines": [3.0] * 200}])
def test_damaged_cosines_are_refused(two: CandidateCalibration, fitted: CandidateCalibration, change: Any) -> None:
    with pytest.raises(ModelFolderError):
        CandidateCalibration.from_dict({**two.to_dict(), **change})
    with pytest.raises(ModelFolderError):
        CandidateCalibration.from_dict({**fitted.to_dict(), "cosines": list(two.cosines)})


def test_a_decider_reads_cosines(two: CandidateCalibration) -> None:
    s, c, y, _ = near_judged(400, 9)
    rule = fit_rule(s, y, None, "f1", miss_rate=0.2)
    assert rule.distinct is not None
    decider = Decider(two.calibrator, rule, two.calibrator.base_rate, candidates=two)
    p, codes = decider.probabilities(s, c), decider.codes(s, cosines=c)
    assert ((codes == 2) == (p >= two.threshold)).all()
    # The distinct threshold stays one of the score.
    assert ((codes >= 1) == ((s >= rule.distinct.score) | (codes == 2))).all()
    assert [str(decision) for decision in decider.decide(s, cosines=c)].count("duplicate") == (codes == 2).sum()
    with pytest.raises(InputError, match="cosines must be given"):
        decider.codes(s)


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(InputError, match="unknown policy"):
        calibrate_candidates(PLAIN, *judged(), policy="best")
