"""Adapt a fitted calibrator to a few local labels.

The adapted calibrator is a Platt map of the original log-odds, with a Gaussian prior that draws it towards the original
(Platt scaling as maximum a posteriori): with few labels it stays close, with many the labels decide. Its probabilities
are then moderated (MacKay 1992): what few labels leave open draws them towards 0.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dupq.calibration.calibrators import (
    MIN_OF_EACH,
    AdaptedCalibrator,
    Calibrator,
    fit_calibrator,
    group_folds,
    total_loss,
)
from dupq.data import checks
from dupq.data.arguments import as_kind, as_seed
from dupq.errors import InputError, NotEnoughLabelsError

Floats = NDArray[np.float64]

SLOPE_PRIOR = 0.5
INTERCEPT_PRIOR = 2.0
MIN_SLOPE = 0.01
MIN_LABELS = 20
ENOUGH_LABELS = 300


def adapt_calibrator(
    calibrator: Calibrator,
    scores: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    seed: int = 0,
) -> Calibrator:
    """Fit a calibrator to local labels, with a fitted calibrator as the prior.

    Local log-odds = slope * original log-odds + intercept, with slope ~ N(1, 0.5) and intercept ~ N(0, 2): the maximum
    a posteriori with Platt's softened labels. It is moderated: the log-odds of each local pair are divided by
    sqrt(1 + pi/8 * their variance under the Laplace approximation of the posterior), and the nearest line to those is
    taken. The slope is 0.01 or more. From 300 labels on, a calibrator fitted to the local pairs alone takes its place
    if its cross-validated log loss over question groups is lower.

    Args:
        calibrator: The original; of an adapted one, the original that it was made from.
        scores: Raw scores (n,) by the same scorer, n >= 20.
        labels: 0 or 1 (n,), in the mix that will be decided; one label alone will do.
        groups: Question group keys (n,); None: each pair is its own group.
        seed: Seed of the folds.

    Returns:
        The local calibrator; its base rate is the mean of its probabilities of the local pairs.

    Raises:
        NotEnoughLabelsError: Fewer than 20 labels.
        InputError: Scores that are not finite, lengths that differ, labels other than 0 and 1.
    """
    as_kind(calibrator, Calibrator, "calibrator", "give that of a calibrated pipeline")
    as_seed(seed)
    s, y, g = checked_local(scores, labels, groups)
    original = calibrator.original if isinstance(calibrator, AdaptedCalibrator) else calibrator
    return _fit(original, s, y, g, seed)


def checked_local(
    scores: ArrayLike, labels: ArrayLike, groups: ArrayLike | None
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Return checked local scores, labels and groups, (n,) each.

    Errors are those of `adapt_calibrator`.
    """
    s = checks.checked_scores(scores)
    y = checks.as_numbers(labels, "labels")
    if len(s) < MIN_LABELS:
        raise NotEnoughLabelsError(
            f"{len(s)} local labels are too few to adapt a calibrator",
            needed=MIN_LABELS - len(s),
            hint=f"label {MIN_LABELS} pairs or more; 50 make a difference",
        )
    if y.shape != (len(s),) or not np.isin(y, (0, 1)).all():
        raise InputError("labels must be 0 or 1, one a score", hint="leave out the pairs that have no label")
    return s, y, checks.checked_groups(groups, len(s))


def _fit(original: Calibrator, s: Floats, y: Floats, g: NDArray[np.int64], seed: int) -> Calibrator:
    local = fit_map(original, s, y)
    if len(s) < ENOUGH_LABELS or min(y.sum(), len(y) - y.sum()) < MIN_OF_EACH:
        return local
    try:
        fresh = fit_calibrator(s, y, g, seed=seed)
    except InputError:  # duplicates score lower than distinct pairs here, and only the prior keeps the map rising
        return local
    fold = group_folds(g, 5, seed)
    loss = 0.0
    for k in np.unique(fold):
        test = fold == k
        loss += total_loss(fit_map(original, s[~test], y[~test]).log_odds(s[test]), y[test]) / len(s)
    losses = {"adapted": loss, **fresh.cv_losses}
    return replace(local if loss <= min(fresh.cv_losses.values()) else fresh, cv_losses=losses)


def fit_map(
    original: Calibrator, s: Floats, y: Floats, weights: Floats | None = None, centre: tuple[float, float] = (1.0, 0.0)
) -> AdaptedCalibrator:
    """Fit slope and intercept of an original calibrator's log-odds.

    The widths of the priors and the moderation are those of `adapt_calibrator`.

    Args:
        original: The original.
        s, y: Raw scores and labels, (n,).
        weights: Number of independent pairs that each pair counts for, >= 0, (n,); None: one.
        centre: Means of the priors of slope and intercept.
    """
    z = original.log_odds(s)
    w = np.ones_like(z) if weights is None else weights
    terms = (Term(z, centre[0], SLOPE_PRIOR, MIN_SLOPE), Term(np.ones_like(z), centre[1], INTERCEPT_PRIOR))
    (slope, intercept), rate = fit_terms(terms, y, w)
    return AdaptedCalibrator(base_rate=rate, pairs=len(s), original=original, slope=slope, intercept=intercept)


class Term(NamedTuple):
    """Term of the log-odds with a Gaussian prior of its coefficient.

    The term is coefficient * values.

    Attributes:
        values: (n,).
        mean, width: Mean and standard deviation of the prior.
        lowest: The lowest coefficient; None: no limit.
    """

    values: Floats
    mean: float
    width: float
    lowest: float | None = None


def fit_terms(terms: Sequence[Term], y: Floats, w: Floats) -> tuple[list[float], float]:
    """Fit the coefficients of log-odds, moderated as in `adapt_calibrator`.

    Args:
        terms: The terms.
        y: Labels, (n,).
        w: Number of independent pairs that each pair counts for, >= 0, (n,).

    Returns:
        The coefficients, and the weighted mean of the probabilities.
    """
    from scipy.optimize import minimize  # takes long to import, and scoring does without
    from scipy.special import expit

    x = np.stack([term.values for term in terms], axis=1)
    centre, width = (np.array([getattr(term, name) for term in terms]) for name in ("mean", "width"))

    def nearest(target: Floats, prior: float) -> Floats:
        def loss(beta: Floats) -> tuple[float, Floats]:
            odds, away = x @ beta, (beta - centre) / width
            slope = x.T @ (w * (expit(odds) - target)) + prior * away / width
            return float(w @ (np.logaddexp(0, odds) - target * odds)) + prior * float(away @ away) / 2, slope

        bounds = [(term.lowest, None) for term in terms]
        return np.asarray(minimize(loss, centre, jac=True, method="L-BFGS-B", bounds=bounds).x)

    ones, zeros = float(w @ y), float(w @ (1 - y))
    most_likely = nearest(np.where(y == 1, (ones + 1) / (ones + 2), 1 / (zeros + 2)), prior=1.0)
    odds = x @ most_likely
    spread = w * expit(odds) * expit(-odds)
    covariance = np.linalg.inv((x * spread[:, None]).T @ x + np.diag(width**-2))
    variance = np.einsum("ij,jk,ik->i", x, covariance, x)
    found = nearest(expit(odds / np.sqrt(1 + np.pi / 8 * variance)), prior=0.0)
    return found.tolist(), float(np.average(expit(x @ found), weights=w))
