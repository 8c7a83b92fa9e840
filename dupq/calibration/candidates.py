"""Calibrate on judged candidates, which were drawn with unequal probabilities.

Candidates of mining are not drawn like labelled pairs: a search picked them because their vectors are near, so that a
score means another probability among them. Judged candidates stand for all others by their sampling weights (Horvitz &
Thompson 1952). The cosine by which the search picked them carries evidence that the score leaves unused.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dupq.calibration.adaptation import (
    INTERCEPT_PRIOR,
    MIN_LABELS,
    MIN_SLOPE,
    SLOPE_PRIOR,
    Term,
    checked_local,
    fit_map,
    fit_terms,
)
from dupq.calibration.calibrators import AdaptedCalibrator, Calibrator, CosineCalibrator
from dupq.data import checks
from dupq.data.arguments import as_kind
from dupq.errors import InputError, NotEnoughLabelsError

Floats = NDArray[np.float64]

COSINE_PRIOR = 20.0
"""Standard deviation of the prior of the cosine's weight: a difference of 0.05 then counts for about one unit."""


def fit_candidate_calibrator(
    calibrator: Calibrator,
    scores: ArrayLike,
    labels: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    cosines: ArrayLike | None = None,
) -> AdaptedCalibrator:
    """Fit a calibrator to judged candidates, with a fitted calibrator as the prior.

    The map and its priors are those of `adapt_calibrator`. With cosines, the term weight * (cosine - mean cosine) is
    fitted with it, weight >= 0, prior N(0, 20), so that few candidates stay with the score alone. The weights are
    scaled to sum to the effective number of candidates, (sum w)^2 / (sum w^2) (Kish 1965), so that unequal weights
    leave more to the prior, and their unit has no effect.

    Args:
        calibrator: That of labelled pairs; or that of other candidates, whose map is then the mean of the prior.
        scores: Raw scores (n,) by the same scorer, n >= 20.
        labels: 0 or 1 (n,), both present.
        weights: Candidates that each judged one stands for, >= 0, (n,); None: all the same.
        cosines: Cosines of the pairs' embeddings, (n,); None: the score is the only input.

    Returns:
        The candidates' calibrator, a `CosineCalibrator` with cosines; its base rate is the weighted mean of its
        probabilities.

    Raises:
        NotEnoughLabelsError: Fewer than 20 labels, or none of one kind.
        InputError: Scores, weights or cosines that are not finite, negative weights, lengths that differ, labels other
            than 0 and 1, or no cosines where the given calibrator reads them.
    """
    as_kind(calibrator, Calibrator, "calibrator", "give that of a calibrated pipeline")
    s, y, _ = checked_local(scores, labels, None)
    w = checked_weights(weights, len(s))
    if not 0 < w @ y < w.sum():
        kind = "duplicate" if w @ y == 0 else "distinct pair"
        raise NotEnoughLabelsError(
            f"no judged candidate of a weight above 0 is a {kind}",
            needed=1,
            hint=f"judge {MIN_LABELS} or more candidates drawn at random over the whole range of probabilities",
        )
    counts = w * effective_number(w) / w.sum()
    original, centre = calibrator, (1.0, 0.0)
    if isinstance(calibrator, AdaptedCalibrator):
        original, centre = calibrator.original, (calibrator.slope, calibrator.intercept)
    if cosines is None and not calibrator.reads_cosines:
        return fit_map(original, s, y, counts, centre)
    c = checks.checked_cosines(cosines, len(s))
    weight, middle = 0.0, float(np.average(c, weights=w))
    if isinstance(calibrator, CosineCalibrator):
        weight, middle = calibrator.cosine_weight, calibrator.cosine_centre
    z = original.log_odds(s)
    terms = (
        Term(z, centre[0], SLOPE_PRIOR, MIN_SLOPE),
        Term(np.ones_like(z), centre[1], INTERCEPT_PRIOR),
        # In units of the prior, so that the search of the optimum is well scaled.
        Term(COSINE_PRIOR * (c - middle), weight / COSINE_PRIOR, 1.0, 0.0),
    )
    (slope, intercept, units), rate = fit_terms(terms, y, counts)
    return CosineCalibrator(
        base_rate=rate,
        pairs=len(s),
        original=original,
        slope=slope,
        intercept=intercept,
        cosine_weight=COSINE_PRIOR * units,
        cosine_centre=middle,
    )


def effective_number(weights: Floats) -> float:
    """Compute the effective number of pairs with these weights, in [1, n] (Kish 1965)."""
    return float(weights.sum() ** 2 / (weights @ weights))


def checked_weights(weights: ArrayLike | None, n: int) -> Floats:
    """Return n weights as float64 (n,), scaled to a maximum of 1; None: all 1.

    Raises:
        InputError: A weight is negative or not finite, all are 0, or there are not n.
    """
    if weights is None:
        return np.ones(n)
    w = checks.as_numbers(weights, "weights")
    if w.shape != (n,):
        raise InputError(f"weights must have the shape ({n},), got {w.shape}", hint="give one weight a pair")
    bad = np.flatnonzero(~(np.isfinite(w) & (w >= 0)))
    if len(bad):
        raise InputError(
            f"weights must be 0 or more, got {w[bad[0]]:g} (pair {bad[0] + 1})",
            hint="give the number of candidates that a judged one stands for",
        )
    if not w.any():
        raise InputError("weights must not all be 0", hint="leave weights out where all pairs count the same")
    return np.asarray(w / w.max())
