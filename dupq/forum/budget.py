"""Judging candidates within a budget: the scorer judges a sample and what is uncertain, the cosine the rest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from dupq.errors import InputError
from dupq.forum.judging import Decider, Judge
from dupq.forum.work import scored
from dupq.models.scorers import Progress, part_of

Floats = NDArray[np.float64]

SAMPLE_SHARE = 0.2
"""Of the budget, so much goes to pairs of all cosines, to learn what a cosine means here."""


def judge_candidates(
    judge: Judge,
    decider: Decider,
    texts: tuple[Sequence[str], Sequence[str]],
    cosine: Floats,
    *,
    limit: int | None,
    folder: Path | None,
    progress: Progress | None,
) -> tuple[Floats, NDArray[np.bool_]]:
    """Scores m candidates, `limit` of them by the scorer.

    Of the budget a fifth is spent on pairs evenly spread over the cosines. A monotone regression of their
    probabilities (isotonic; Ayer et al. 1955) says what a cosine means in this collection, without a label. The rest
    goes to the pairs that this leaves nearest to the threshold. The others get the score whose probability is that of
    their cosine.

    Args:
        judge, decider: What scores, and what turns scores to probabilities.
        texts: Left and right texts of the candidates.
        cosine: Float64 (m,), falling.
        limit: The budget, at least 100; None: all are judged.
        folder: Where scores are kept for a later run; None: nowhere.
        progress: Called with (pairs judged, pairs to judge).

    Returns:
        Scores, float64 (m,), and which of them the scorer gave, bool (m,).

    Raises:
        InputError: A limit too small to learn from, or a folder of another run.
    """
    check_budget(limit)
    m = len(cosine)
    total = m if limit is None else min(limit, m)

    def given(rows: NDArray[np.int64], name: str, before: int) -> Floats:
        told = part_of(progress, before, len(rows), total)
        left, right = ([side[row] for row in rows.tolist()] for side in texts)
        return scored(left, right, judge, folder, told, name)

    if total == m:
        return given(np.arange(m), "all", 0), np.ones(m, bool)
    sample = np.unique(np.linspace(0, m - 1, int(SAMPLE_SHARE * total)).astype(np.int64))
    scores, judged = np.empty(m), np.zeros(m, bool)
    scores[sample], judged[sample] = given(sample, "sample", 0), True
    expected = expected_probabilities(cosine[sample], decider.probabilities(scores[sample]), cosine)
    distance = np.where(judged, np.inf, np.abs(expected - decider.threshold))
    uncertain = np.sort(np.argsort(distance, kind="stable")[: total - len(sample)])
    scores[uncertain], judged[uncertain] = given(uncertain, "uncertain", len(sample)), True
    scores[~judged] = scores_of(expected[~judged], decider, scores[judged])
    return scores, judged


def check_budget(limit: int | None) -> None:
    """Raises InputError for a budget that is too small to learn from."""
    if limit is not None and limit < 100:
        raise InputError(
            "too few to learn from", where=f"judge_at_most {limit}", mend="give 100 or more, or None for all"
        )


def expected_probabilities(cosine: Floats, probabilities: Floats, at: Floats) -> Floats:
    """The mean probability at each cosine of `at`, (m,), never falling with it, from a sample of pairs."""
    knots, place = np.unique(cosine, return_inverse=True)
    weight = np.bincount(place).astype(np.float64)
    fitted = isotonic_regression(np.bincount(place, probabilities) / weight, weights=weight)
    # Each block of the steps stands at its mean cosine; between blocks the line is straight.
    edges = fitted.blocks[:-1]
    centre = np.add.reduceat(knots * weight, edges) / np.add.reduceat(weight, edges)
    return np.asarray(np.interp(at, centre, fitted.x[edges]))


def scores_of(probabilities: Floats, decider: Decider, seen: Floats) -> Floats:
    """The scores that the calibrator gives these probabilities, within the range of the scores that were seen."""
    grid = np.linspace(seen.min(), seen.max(), 4001)
    return np.asarray(np.interp(probabilities, decider.probabilities(grid), grid))
