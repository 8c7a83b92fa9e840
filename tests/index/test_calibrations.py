"""Calibration of an index from verdicts: the fit, its figures, guarantees of the audit, versions and roll back."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from dupq.calibration.calibrators import PlattCalibrator
from dupq.decisions.audit import AuditGuarantee, choose_audited_threshold, precision_interval, stratified_bounds
from dupq.decisions.candidate_calibration import CandidateCalibration
from dupq.decisions.decider import Decider
from dupq.decisions.thresholds import Policy
from dupq.errors import InputError, ModelFolderError, NotEnoughLabelsError
from dupq.index.calibrations import JudgedPairs, evaluate, fit_calibration
from dupq.index.question_index import QuestionIndex
from dupq.pipeline import DuplicatePipeline
from tests.fakes import WordEmbedder, WordScorer
from tests.index.stored import IDS, TEXTS
from tests.questions import labelled_table

PER_QUESTION = 3


def shipped(pipeline: DuplicatePipeline) -> Decider:
    """A decider whose calibrator is right at score - 0.5."""
    calibrator = PlattCalibrator(slope=1.0, intercept=-0.5, base_rate=0.1)
    return replace(pipeline.candidate_decider, calibrator=calibrator, base_rate=0.1)


def judged(n: int, sampled: int, *, slope: float, intercept: float, seed: int = 0, error: float = 0.0) -> JudgedPairs:
    """Pairs whose log-odds are slope * score + intercept, `sampled` of them with a verdict."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(-2, 2.5, n)
    truth = rng.random(n) < expit(slope * scores + intercept)
    answers = (truth ^ (rng.random(n) < error)).astype(np.int8)
    p = expit(scores - 0.5)
    strata = np.where(p >= 0.5, "duplicate", "distinct").astype(object)
    drawn, value = rng.random(n), np.maximum(4 * p * (1 - p), 0.01)
    audit = {kind: np.sort(drawn[strata == kind])[sampled // 4] for kind in ("duplicate", "distinct")}
    audits = np.array([audit[kind] for kind in strata])
    pi = np.maximum(audits, np.minimum(1, np.sort(drawn / value)[sampled // 2] * value))
    inside = drawn < pi
    return JudgedPairs(
        scores=scores,
        strata=strata,
        drawn=drawn,
        answers=np.where(inside, answers, -2).astype(np.int8),
        inclusion=np.where(inside, pi, 0),
        audited=drawn < audits,
        groups=np.arange(n),
        copies=np.zeros(n, bool),
        held_back=np.zeros(n, bool),
    )


# ---- the fit --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("slope", "intercept"), [(0.5, -1.5), (1.0, -0.5), (1.5, 0.5)])
def test_many_verdicts_find_the_true_map_and_few_stay_closer_to_the_shipped_one(
    pipeline: DuplicatePipeline, slope: float, intercept: float
) -> None:
    own, policy = shipped(pipeline), Policy.precision(0.8, delta=None)
    points = np.array([-4.0, -1.0, 1.0, 3.0])
    true, prior = expit(slope * points + intercept), expit(points - 0.5)

    def distance(sampled: int) -> float:
        pairs = judged(20_000, sampled, slope=slope, intercept=intercept)
        calibration, warning = fit_calibration(own, pairs, policy)
        assert warning is None
        assert calibration.guarantee is None
        return float(np.abs(calibration.calibrator.probabilities(points) - true).max())

    assert distance(8000) < 0.06
    assert distance(80) < max(0.25, 1.2 * np.abs(prior - true).max())


def test_held_out_figures_see_the_gain(pipeline: DuplicatePipeline) -> None:
    own, policy = shipped(pipeline), Policy.precision(0.8, delta=None)
    before, after, change = evaluate(own, own, judged(8000, 1200, slope=0.4, intercept=-2.5), policy)
    assert change.high < 0
    assert after.brier.value < before.brier.value
    assert after.calibration_error.value < before.calibration_error.value
    same = evaluate(own, own, judged(8000, 1200, slope=1, intercept=-0.5), policy)
    assert same[2].low < 0.01


def test_a_verdict_in_a_held_out_group_does_not_reach_its_own_prediction(pipeline: DuplicatePipeline) -> None:
    """With all verdicts in two groups of opposite answers, held-out losses are no better than those of the prior."""
    own, pairs = shipped(pipeline), judged(3000, 300, slope=1, intercept=-0.5)
    clear = pairs.clear
    answers = pairs.answers.copy()
    answers[clear] = (np.arange(clear.sum()) % 2).astype(np.int8)
    split = replace(pairs, answers=answers, groups=(answers == 1).astype(np.int64))
    _, after, _ = evaluate(own, own, split, Policy.precision(0.5, delta=None))
    # Each fold lacks one answer, so the pipeline's own calibrator predicts it.
    before, _, _ = evaluate(own, own, split, Policy.precision(0.5, delta=None))
    assert after.log_loss.value == pytest.approx(before.log_loss.value)


# ---- guarantees -----------------------------------------------------------------------------------------------------


def test_a_guarantee_holds_with_its_confidence(pipeline: DuplicatePipeline) -> None:
    """Over many draws of the audit the true precision is below the level in at most about delta of them."""
    own, level, failures, given_ = shipped(pipeline), 0.8, 0, 0
    policy = Policy.precision(level, delta=0.1)
    for seed in range(120):
        pairs = judged(4000, 900, slope=0.9, intercept=-0.8, seed=seed)
        p = pairs.probabilities(own.calibrator)
        try:
            found = choose_audited_threshold(policy, p, pairs.strata, pairs.audited, pairs.labels)
        except NotEnoughLabelsError:
            continue
        given_ += 1
        flagged = p >= found.threshold
        true = expit(0.9 * pairs.scores[flagged] - 0.8).mean()
        failures += true < level
        assert found.flagged == flagged.sum()
        assert found.bound >= level
    assert given_ > 60
    assert failures <= 0.17 * 120


def test_a_guarantee_comes_from_the_audit_alone(pipeline: DuplicatePipeline) -> None:
    own, policy = shipped(pipeline), Policy.precision(0.7)
    pairs = judged(6000, 1600, slope=1.2, intercept=0.5)
    calibration, warning = fit_calibration(own, pairs, policy)
    assert warning is None
    assert calibration.guarantee is not None
    assert calibration.threshold == calibration.guarantee.threshold
    unaudited, warning = fit_calibration(own, replace(pairs, audited=np.zeros(len(pairs), bool)), policy)
    assert unaudited.guarantee is None
    assert warning is not None
    assert "audit" in warning
    decider = replace(own, calibrator=calibration.calibrator, base_rate=calibration.calibrator.base_rate)
    with_it = replace(decider, candidates=calibration)
    assert "precision >= 0.7 with confidence 0.95" in with_it.guarantee
    assert "no guarantee" in with_it.at(base_rate=0.4).guarantee
    assert "no guarantee" in replace(decider, candidates=unaudited).guarantee
    assert "no guarantee" in replace(with_it, candidates=calibration.with_policy(Policy.max_f1())).guarantee
    again = CandidateCalibration.from_dict(json.loads(json.dumps(calibration.to_dict())))
    assert again == calibration


def test_a_recall_is_guaranteed_where_the_audit_is_large() -> None:
    rng = np.random.default_rng(1)
    p = rng.random(3000)
    labels = (rng.random(3000) < p**4).astype(int)
    strata = np.where(p > 0.5, "duplicate", "distinct")
    found = choose_audited_threshold(Policy.recall(0.7), p, strata, rng.random(3000) < 0.5, labels)
    assert labels[p >= found.threshold].sum() / labels.sum() >= 0.7
    assert found.threshold > 0.1
    with pytest.raises(NotEnoughLabelsError):
        choose_audited_threshold(Policy.recall(0.7), p, strata, rng.random(3000) < 0.01, labels)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(0, 500)), min_size=1, max_size=4),
    st.floats(0.01, 0.4),
)
def test_bounds_enclose_the_estimate(rows: list[tuple[int, int, int]], delta: float) -> None:
    hits, n, size = (np.array(x) for x in zip(*[(a, a + b, a + b + rest) for a, b, rest in rows], strict=True))
    lower, upper, _ = stratified_bounds(hits, n, size, delta)
    assert (lower <= upper + 1e-9).all()
    assert (lower >= 0).all()
    assert (upper <= size + 1e-9).all()
    share, low, high = precision_interval(hits, n, size, delta)
    if n.any() and (n > 0)[size > 0].all():
        assert low - 1e-9 <= share <= high + 1e-9


def test_a_damaged_guarantee_is_refused() -> None:
    sound = AuditGuarantee("precision", 0.8, 0.05, 0.83, 0.6, 200, 60, 2).to_dict()
    assert AuditGuarantee.from_dict(sound).errors == 2
    for broken in ({"kind": "f1"}, {"level": 1.5}, {"delta": 0.0}, {"errors": None}):
        with pytest.raises(ModelFolderError):
            AuditGuarantee.from_dict(sound | broken)
    with pytest.raises(InputError, match="policy must be"):
        choose_audited_threshold(Policy.max_f1(), [0.5], ["duplicate"], [True], [1])


@pytest.mark.parametrize("label", [0, 1])
def test_too_few_or_one_kind_of_answer_is_refused(pipeline: DuplicatePipeline, label: int) -> None:
    pairs = judged(2000, 200, slope=1, intercept=-0.5)
    one = replace(pairs, answers=np.where(pairs.answers >= 0, label, pairs.answers).astype(np.int8))
    kind = "distinct pairs" if label else "duplicates"
    with pytest.raises(NotEnoughLabelsError, match=f"5 more {kind}") as caught:
        fit_calibration(shipped(pipeline), one, Policy.max_f1())
    assert caught.value.needed == 5


# ---- the index ------------------------------------------------------------------------------------------------------


def answer_all(index: QuestionIndex, count: int, rng: np.random.Generator) -> int:
    """Answer pairs of the queue: duplicates are questions of one row of `INTENTS` about one thing."""
    given_ = 0
    while given_ < count:
        items = index.review_queue(min(20, count - given_))
        if not items:
            break
        for item in items:
            one, other = (int(str(q.id)[1:]) // PER_QUESTION for q in (item.question, item.other))
            same = (one == other) ^ (rng.random() < 0.1)
            answer = "duplicate" if same else "distinct"
            index.verdict(item.question.id, item.other.id, answer, by="ann", chosen=item.chosen, sampled=item.sampled)
            given_ += 1
    return given_


@pytest.fixture
def judging(path: Path, pipeline: DuplicatePipeline) -> QuestionIndex:
    index = QuestionIndex(path, pipeline)
    index.add(IDS[:54], TEXTS[:54])
    index.flag_stored(IDS[:54], k=6)
    return index


def test_a_version_is_written_used_and_rolled_back(judging: QuestionIndex, pipeline: DuplicatePipeline) -> None:
    own = pipeline.candidate_decider
    assert judging.decider == own
    assert judging.calibrations() == []
    answer_all(judging, 90, np.random.default_rng(0))
    dry = judging.calibrate(by="ann", dry_run=True)
    assert dry.number is None
    assert judging.calibrations() == []
    assert judging.decider == own
    first = judging.calibrate(by="ann")
    assert first.number == 1
    assert first.previous == 0
    assert replace(first, number=None, calibration=dry.calibration) == replace(dry, calibration=dry.calibration)
    assert judging.decider.candidates == first.calibration != own.candidates
    report = judging.flag(TEXTS[0])
    assert report.decider == judging.decider
    assert [flag.probability for flag in report.flags if not flag.copy] == pytest.approx(
        first.calibration.calibrator.probabilities([flag.score for flag in report.flags if not flag.copy])
    )
    second = judging.calibrate(by="bob", policy="precision>=0.6")
    assert (second.number, second.previous) == (2, 1)
    versions = judging.calibrations()
    assert [(v.number, v.by, v.in_use) for v in versions] == [(1, "ann", False), (2, "bob", True)]
    judging.roll_back(1, by="ann")
    assert judging.decider.candidates == first.calibration
    judging.roll_back(0, by="ann")
    assert judging.decider == own
    with QuestionIndex(judging._store.location, pipeline) as again:
        assert again.decider == own
        again.roll_back(2, by="cat")
    assert judging.decider.candidates == second.calibration
    assert "version 2" in str(second)
    assert second.conclusion in str(second)


def test_bad_arguments_are_refused(judging: QuestionIndex) -> None:
    with pytest.raises(NotEnoughLabelsError, match="0 verdicts") as caught:
        judging.calibrate(by="ann")
    assert "review_queue" in str(caught.value)
    answer_all(judging, 60, np.random.default_rng(0))
    for policy in ("precision", "precision>=2", "nonsense", 3):
        with pytest.raises(InputError):
            judging.calibrate(by="ann", policy=policy)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="by"):
        judging.calibrate(by=" ")
    for number in (1, 99, -1, "1", True):
        with pytest.raises(InputError, match="number must be"):
            judging.roll_back(number, by="ann")  # type: ignore[arg-type]
    assert judging.calibrations() == []


def test_verdicts_on_scores_of_another_pipeline_do_not_count(
    judging: QuestionIndex, caplog: pytest.LogCaptureFixture
) -> None:
    answer_all(judging, 80, np.random.default_rng(0))
    judging.calibrate(by="ann")
    other = DuplicatePipeline(WordScorer(fingerprint="another"), WordEmbedder()).calibrate(labelled_table())
    with QuestionIndex(judging._store.location, other) as index:
        with caplog.at_level(logging.WARNING):
            assert index.decider == other.candidate_decider
        assert "another pipeline" in caplog.text
        caplog.clear()
        assert index.decider == other.candidate_decider
        assert not caplog.text
        with pytest.raises(NotEnoughLabelsError, match="80 on pairs scored by another pipeline"):
            index.calibrate(by="ann")
        index.flag_stored(IDS[:54], k=6)
        assert index.calibrate(by="ann").number == 2
    assert judging.decider == judging._require_pipeline().candidate_decider


def test_verdicts_outside_the_sample_and_unclear_ones_are_left_out(judging: QuestionIndex) -> None:
    answer_all(judging, 60, np.random.default_rng(0))
    items = judging.review_queue(400)
    # By hand, from the end of the queue.
    for item in items[-12:]:
        judging.verdict(item.question.id, item.other.id, "distinct", by="ann")
    judging.verdict(items[0].question.id, items[0].other.id, "skip", by="ann")
    result = judging.calibrate(by="ann")
    assert result.left_out["skipped or contested"] == 1
    assert result.left_out["outside the sample"] > 0
    assert result.verdicts + sum(result.left_out.values()) == 73


def test_a_damaged_version_is_named_and_can_be_left(judging: QuestionIndex) -> None:
    answer_all(judging, 60, np.random.default_rng(0))

    def damage(transaction) -> None:  # type: ignore[no-untyped-def]
        number = transaction.add_calibration(judging._require_pipeline().fingerprint, "2026-01-01", {"candidates": {}})
        transaction.use_calibration(number)

    judging._store.write(damage)
    with pytest.raises(InputError, match="calibration 1 is damaged"):
        judging.flag(TEXTS[0])
    judging.roll_back(0, by="ann")
    assert judging.flag(TEXTS[0]).flags


def test_a_calibrator_that_reads_cosines_keeps_the_order_of_the_pairs(path: Path, pipeline: DuplicatePipeline) -> None:
    with_cosines = pipeline.calibrate_candidates(labelled_table())
    own = with_cosines.candidate_decider.calibrator
    assert own.reads_cosines
    with QuestionIndex(path, with_cosines) as index:
        index.add(IDS[:54], TEXTS[:54])
        flags = [flag for report in index.flag_stored(IDS[:54], k=6) for flag in report.flags]
        answer_all(index, 90, np.random.default_rng(0))
        result = index.calibrate(by="ann", policy="precision>=0.6")
        fitted = result.calibration.calibrator
        assert fitted.reads_cosines
        scores, cosines = ([getattr(flag, name) for flag in flags] for name in ("score", "cosine"))
        before, after = (calibrator.log_odds(scores, cosines=cosines) for calibrator in (own, fitted))
        slope, intercept = np.polyfit(before, after, 1)
        assert after == pytest.approx(slope * before + intercept)
        assert slope > 0
        assert after != pytest.approx(before)
        assert index.decider.candidates == result.calibration
        again = index.flag(TEXTS[0], k=6)
        assert again.decider.candidates == result.calibration
        assert index.monitor().calibration == 1
