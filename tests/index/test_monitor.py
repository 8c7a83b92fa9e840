"""The monitor of a live index: the alarm's error rates, what it reads, drift, and the report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dupq.calibration.calibrators import PlattCalibrator
from dupq.decisions.candidate_calibration import calibrate_candidates
from dupq.decisions.drift import DriftResult
from dupq.errors import InputError
from dupq.index.monitor import alarm_evidence, precision_alarm, score_drift, score_reference
from dupq.index.question_index import QuestionIndex
from dupq.pipeline import DuplicatePipeline
from tests.index.stored import IDS, TEXTS
from tests.index.test_calibrations import answer_all, judged, shipped

LEVELS = (0.6, 0.9, 0.97)


@pytest.mark.parametrize("level", LEVELS)
def test_false_alarms_over_all_time_stay_below_their_rate(level: float) -> None:
    rng = np.random.default_rng(3)
    alarms = sum(precision_alarm(rng.random(600) < level, level, alpha=0.1).raised for _ in range(100))
    # 0.1 of 100 are 10; four standard errors above that are 22.
    assert alarms <= 22


@pytest.mark.parametrize("level", LEVELS)
def test_a_drop_is_found_from_the_start_and_later(level: float) -> None:
    rng = np.random.default_rng(4)
    early = [precision_alarm(rng.random(400) < level - 0.15, level).raised_at for _ in range(15)]
    assert sum(at is not None for at in early) >= 13
    late = []
    for _ in range(15):
        answers = np.concatenate([rng.random(300) < (1 + level) / 2, rng.random(600) < level - 0.15])
        late.append(precision_alarm(answers, level).raised_at)
    found = [at for at in late if at is not None]
    assert len(found) >= 13
    assert np.median(found) > 300


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 1), min_size=1, max_size=10), st.floats(0.05, 0.95))
def test_the_evidence_is_fair(answers: list[int], level: float) -> None:
    """One more answer leaves the evidence as it is on average, which makes it a test martingale."""
    before = alarm_evidence(answers, level)[-1]
    right, wrong = (alarm_evidence([*answers, x], level)[-1] for x in (1, 0))
    assert level * right + (1 - level) * wrong == pytest.approx(before)
    assert wrong > right > 0


def test_it_starts_at_one() -> None:
    right, wrong = (alarm_evidence([x], 0.8)[0] for x in (1, 0))
    assert 0.8 * right + 0.2 * wrong == pytest.approx(1)
    empty = precision_alarm([], 0.8)
    assert (empty.raised, empty.pairs, empty.evidence) == (False, 0, 1.0)


@pytest.mark.parametrize(("answers", "level"), [([2], 0.5), ([0.5], 0.5), ([1], 1.0), ([1], 0), ([[1]], 0.5)])
def test_bad_answers_and_levels_are_refused(answers: list[float], level: float) -> None:
    with pytest.raises(InputError):
        precision_alarm(np.array(answers), level)


def test_drift_is_measured_against_the_scores_of_the_calibration(pipeline: DuplicatePipeline) -> None:
    from dupq.decisions.thresholds import Policy
    from dupq.index.calibrations import fit_calibration

    pairs = judged(6000, 900, slope=1, intercept=-0.5)
    calibration, _ = fit_calibration(shipped(pipeline), pairs, Policy.max_f1())
    reference = score_reference(calibration, len(pairs))
    assert reference is not None
    assert reference.pairs == pytest.approx(len(pairs), rel=0.05)
    same = judged(600, 100, slope=1, intercept=-0.5, seed=9).scores
    found = score_drift(reference, same, np.arange(600))
    assert isinstance(found, DriftResult)
    assert not found.alarm
    moved = score_drift(reference, same + 1.5, np.arange(600))
    assert isinstance(moved, DriftResult)
    assert moved.alarm
    assert "too few" in str(score_drift(reference, same[:20], np.arange(20)))
    assert "no drift check" in str(score_drift(None, same, np.arange(600)))
    one_score = replace(calibration, scores=(1.0,) * len(calibration.scores))
    assert score_reference(one_score, 100) is None


def test_candidates_whose_calibrator_reads_cosines_do_not_drift_by_themselves() -> None:
    def draw(n: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
        rng = np.random.default_rng(seed)
        cosines = rng.uniform(0.5, 1, n)
        scores = rng.normal(-2, 2, n) + 2 * cosines
        labels = (rng.random(n) < 1 / (1 + np.exp(-(scores + 12 * cosines - 10)))).astype(np.int64)
        return scores, cosines, labels

    scores, cosines, labels = draw(8000, 0)
    calibration = calibrate_candidates(
        PlattCalibrator(base_rate=0.4, pairs=8000, slope=1.0, intercept=0.0), scores, labels, cosines=cosines
    )
    calibrator = calibration.calibrator
    assert calibrator.reads_cosines
    reference = score_reference(calibration, 8000)
    alarms = 0
    for seed in range(1, 9):
        live, near, _ = draw(2000, seed)
        found = score_drift(reference, calibrator.log_odds(live, cosines=near), np.arange(2000))
        assert isinstance(found, DriftResult)
        alarms += found.alarm
    assert alarms <= 1
    moved = score_drift(reference, calibrator.log_odds(live + 1, cosines=near), np.arange(2000))
    assert isinstance(moved, DriftResult)
    assert moved.alarm


def test_the_index_is_monitored(path: Path, pipeline: DuplicatePipeline) -> None:
    with QuestionIndex(path, pipeline) as index:
        empty = index.monitor(level=0.9)
        assert (empty.calibration, dict(empty.decisions)) == (0, {})
        assert empty.alarm is not None
        assert empty.alarm.pairs == 0
        index.add(IDS[:54], TEXTS[:54])
        index.flag_stored(IDS[:54], k=6)
        answer_all(index, 90, np.random.default_rng(0))
        index.calibrate(by="ann", policy="precision>=0.6")
        report = index.monitor()
        assert report.calibration == 1
        assert sum(report.decisions.values()) == pytest.approx(1)
        assert report.alarm is not None
        # The verdicts that it was fitted on do not count.
        assert (report.alarm.level, report.alarm.pairs) == (0.6, 0)
        assert "too few" in str(report.drift)
        json.dumps(report.to_dict(), allow_nan=False)
        assert report.advice in str(report)
        for bad in ({"level": 1.0}, {"level": "0.9"}, {"alpha": 0.0}, {"alpha": 2}):
            with pytest.raises(InputError):
                index.monitor(**bad)  # type: ignore[arg-type]
        index.roll_back(0, by="ann")
        assert index.monitor(level=0.9).calibration == 0


def test_only_audited_flagged_pairs_count_in_the_order_of_their_verdicts(
    path: Path, pipeline: DuplicatePipeline
) -> None:
    with QuestionIndex(path, pipeline) as index:
        index.add(IDS[:54], TEXTS[:54])
        index.flag_stored(IDS[:54], k=6)
        answers = []
        for number, item in enumerate(index.review_queue(60, audit_share=0.5)):
            answer = ("duplicate", "distinct", "skip")[number % 3]
            row = index.verdict(item.question.id, item.other.id, answer, by="ann", chosen=item.chosen)
            if item.chosen == "audit" and item.decision.stratum == "duplicate" and answer != "skip":
                answers.append((row, answer == "duplicate"))
        expected = precision_alarm([right for _, right in answers], 0.9)
        assert expected.pairs > 5
        assert index.monitor(level=0.9).alarm == expected
        index.undo(answers[0][0].number, by="ann")
        assert index.monitor(level=0.9).alarm == precision_alarm([right for _, right in answers[1:]], 0.9)
        # A second moderator makes the pair contested; the first answer stays what the alarm has read.
        second = answers[1][0]
        opposite = "distinct" if answers[1][1] else "duplicate"
        index.verdict(second.id, second.other, opposite, by="bob", chosen="audit")
        assert index.monitor(level=0.9).alarm == precision_alarm([right for _, right in answers[1:]], 0.9)


def test_the_alarm_is_raised_by_wrong_flags(path: Path, pipeline: DuplicatePipeline) -> None:
    with QuestionIndex(path, pipeline) as index:
        index.add(IDS, TEXTS)
        index.flag_stored(IDS, k=6)
        for item in index.review_queue(80, audit_share=1.0, decision="duplicate"):
            index.verdict(item.question.id, item.other.id, "distinct", by="ann", chosen=item.chosen)
        report = index.monitor(level=0.9, alpha=0.01)
        assert report.alarm is not None
        assert report.alarm.raised
        assert "calibrate again" in report.advice
        assert "ALARM after" in str(report)
