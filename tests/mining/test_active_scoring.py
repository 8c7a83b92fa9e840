from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression

from dupq.mining.active_scoring import ScoreRows, expected_probabilities, score_candidates
from dupq.mining.checkpoint import Checkpoint
from dupq.pipeline import DuplicatePipeline
from tests.fakes import WordEmbedder


class Known:
    """A scorer whose score of pair number i is known; the texts are numbers."""

    fingerprint = form = "known"

    def __init__(self, scores: NDArray[np.float64]) -> None:
        self.scores = scores
        self.asked: list[int] = []

    def score(self, left: Sequence[str], right: Sequence[str], progress: Any = None) -> NDArray[np.float64]:
        rows = [int(text) for text in left]
        self.asked += rows
        return self.scores[rows]

    def save(self, folder: Path) -> None:
        raise NotImplementedError


def by(pipeline: DuplicatePipeline, texts: Any, folder: Path | None = None) -> ScoreRows:
    """Score candidates by their texts, and keep the scores in a folder."""

    def score_rows(rows: NDArray[np.int64], name: str, progress: Any) -> NDArray[np.float64]:
        left, right = ([side[row] for row in rows.tolist()] for side in texts)
        return Checkpoint(folder).score(left, right, pipeline, progress, name)

    return score_rows


@pytest.fixture
def candidates(pipeline: DuplicatePipeline) -> tuple[NDArray[np.float64], Known, DuplicatePipeline, Any]:
    """5,000 candidates whose score rises with the cosine, with noise."""
    draw = np.random.default_rng(0)
    cosine = np.sort(draw.uniform(0.7, 1, 5000))[::-1].copy()
    scorer = Known(40 * (cosine - 0.85) + 1.5 * draw.standard_normal(5000))
    known = DuplicatePipeline(scorer, WordEmbedder(), calibrator=pipeline.calibrator, rule=pipeline.rule)
    return cosine, scorer, known, ([str(at) for at in range(5000)],) * 2


def test_without_a_limit_all_are_judged(candidates: Any) -> None:
    cosine, scorer, pipeline, texts = candidates
    scores, judged = score_candidates(by(pipeline, texts), pipeline.decider, cosine)
    assert judged.all()
    assert (scores == scorer.scores).all()


def test_the_budget_goes_to_the_uncertain_pairs(candidates: Any) -> None:
    cosine, scorer, pipeline, texts = candidates
    decider, told = pipeline.decider, []
    scores, judged = score_candidates(
        by(pipeline, texts),
        decider,
        cosine,
        limit=1500,
        progress=lambda done, total: told.append((done, total)),
    )
    assert len(scorer.asked) == len(set(scorer.asked)) == judged.sum() == 1500
    assert set(scorer.asked) == set(np.flatnonzero(judged))
    assert (scores[judged] == scorer.scores[judged]).all()
    assert told[-1] == (1500, 1500)
    plain = decider.codes(scorer.scores) == 2
    guessed = decider.codes(scores) == 2
    # Most decisions are those of the scorer, and more of them than an even choice of pairs would leave.
    assert (plain == guessed).mean() > 0.93
    alone = expected_probabilities(cosine, decider.probabilities(scorer.scores), cosine) >= decider.threshold
    assert (plain != guessed).sum() < 0.7 * (plain != alone).sum()


def test_what_is_guessed_is_calibrated(candidates: Any) -> None:
    cosine, scorer, pipeline, texts = candidates
    decider = pipeline.decider
    scores, judged = score_candidates(by(pipeline, texts), decider, cosine, limit=1000)
    for part in np.array_split(np.flatnonzero(~judged), 5):
        meant = decider.probabilities(scorer.scores[part]).mean()
        assert decider.probabilities(scores[part]).mean() == pytest.approx(meant, abs=0.06)


def test_expected_probabilities_are_those_of_isotonic_regression() -> None:
    draw = np.random.default_rng(1)
    cosine = np.round(draw.uniform(0.7, 1, 400), 3)
    probability = np.clip(cosine - 0.3 + 0.2 * draw.standard_normal(400), 0, 1)
    steps = IsotonicRegression().fit(cosine, probability)
    found = expected_probabilities(cosine, probability, np.sort(cosine))
    assert (np.diff(found) >= 0).all()
    # The line joins the steps at their middles, so that it differs from them between two steps only.
    assert np.abs(found - steps.predict(np.sort(cosine))).mean() < 0.02
    assert found.mean() == pytest.approx(probability.mean(), abs=0.01)


def test_an_interrupted_judgement_goes_on(candidates: Any, tmp_path: Path) -> None:
    cosine, scorer, pipeline, texts = candidates
    first = score_candidates(by(pipeline, texts, tmp_path), pipeline.decider, cosine, limit=500)
    asked = len(scorer.asked)
    again = score_candidates(by(pipeline, texts, tmp_path), pipeline.decider, cosine, limit=500)
    assert len(scorer.asked) == asked
    assert (first[0] == again[0]).all()
