"""Score candidates within a budget.

The scorer scores a sample and the uncertain pairs. The other scores are estimated from cosines.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dupq.calibration.numerics import logit
from dupq.decisions.decider import Decider
from dupq.models.batching import part_of
from dupq.types import Progress

Floats = NDArray[np.float64]

SAMPLE_SHARE = 0.2
"""Share of the budget that goes to a sample over all cosines; the rest goes to the uncertain pairs."""
MIN_BUDGET = 100
"""Fewer pairs are too few to estimate a probability for each cosine."""


class ScoreRows(Protocol):
    """Scores some of the candidates."""

    def __call__(self, rows: NDArray[np.int64], name: str, progress: Progress | None) -> Floats:
        """Return the raw scores of the candidates in these rows, float64 (n,).

        Args:
            rows: Rows of the candidates, int64 (n,).
            name: A name for these pairs, lower-case letters, under which their scores may be kept.
            progress: Called with (done, total).
        """
        ...


def score_candidates(
    score_rows: ScoreRows,
    decider: Decider,
    cosine: Floats,
    *,
    limit: int | None = None,
    progress: Progress | None = None,
) -> tuple[Floats, NDArray[np.bool_]]:
    """Score m candidates, at most `limit` of them with the scorer.

    A fifth of the budget goes to pairs spread evenly over the ranks of the cosines. An isotonic regression (Ayer et al.
    1955) of their probabilities on their cosines then estimates the probability of every other pair, without a label.
    The rest of the budget goes to the pairs whose estimate is nearest to the threshold. The remaining pairs get the
    score that the calibrator maps to their estimate at their cosine.

    Args:
        score_rows: Scores candidates.
        decider: Turns scores into probabilities.
        cosine: float64 (m,), falling.
        limit: The budget, `MIN_BUDGET` or more; None: every candidate is scored.
        progress: Called with (pairs scored, pairs to score).

    Returns:
        Scores, float64 (m,), and bool (m,): True where the scorer gave the score.

    Raises:
        OutputError: The scores could not be written.
    """
    m = len(cosine)
    total = m if limit is None else min(limit, m)

    def score(rows: NDArray[np.int64], name: str, before: int) -> Floats:
        return score_rows(rows, name, part_of(progress, before, len(rows), total))

    if total == m:
        return score(np.arange(m), "all", 0), np.ones(m, bool)
    sample = np.unique(np.linspace(0, m - 1, int(SAMPLE_SHARE * total)).astype(np.int64))
    scores, judged = np.empty(m), np.zeros(m, bool)
    scores[sample], judged[sample] = score(sample, "sample", 0), True
    expected = expected_probabilities(cosine[sample], decider.probabilities(scores[sample], cosine[sample]), cosine)
    distance = np.where(judged, np.inf, np.abs(expected - decider.threshold))
    uncertain = np.sort(np.argsort(distance, kind="stable")[: total - len(sample)])
    scores[uncertain], judged[uncertain] = score(uncertain, "uncertain", len(sample)), True
    scores[~judged] = scores_with(expected[~judged], cosine[~judged], decider, scores[judged])
    return scores, judged


def expected_probabilities(cosine: Floats, probabilities: Floats, at: Floats) -> Floats:
    """Estimate probabilities from cosines by isotonic regression.

    The regression is fitted to n probabilities and their cosines, and evaluated at m cosines, float64 (m,).
    """
    from scipy.optimize import isotonic_regression

    knots, place = np.unique(cosine, return_inverse=True)
    weight = np.bincount(place).astype(np.float64)
    fitted = isotonic_regression(np.bincount(place, probabilities) / weight, weights=weight)
    # Each step stands at the mean cosine of its block, and the line between two steps is straight.
    edges = fitted.blocks[:-1]
    centre = np.add.reduceat(knots * weight, edges) / np.add.reduceat(weight, edges)
    return np.asarray(np.interp(at, centre, fitted.x[edges]))


def scores_with(probabilities: Floats, cosine: Floats, decider: Decider, scores: Floats) -> Floats:
    """Return the scores that have these probabilities at these cosines.

    The calibrator is inverted. The scores, float64 (m,), exceed the range of `scores` by its width at most, on either
    side.
    """
    width = float(np.ptp(scores))
    grid = np.linspace(scores.min() - width, scores.max() + width, 12_001)
    # A cosine shifts the log-odds of every score by the same amount.
    shift = decider.log_odds(np.full_like(cosine, grid[0]), cosine) - decider.log_odds(grid[:1], cosine[:1])
    return np.asarray(
        np.interp(logit(probabilities) - shift, decider.log_odds(grid, np.full(len(grid), cosine[0])), grid)
    )
