"""Probabilities at another base rate, and the base rate of a place whose pairs carry no labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

from dupq.decisions.checks import checked_probabilities, checked_rate


def log_odds_shift(from_rate: float, to_rate: float) -> float:
    """What is added to the log-odds of each pair when the base rate moves and both kinds of pair stay the same."""
    return float(logit(checked_rate(to_rate)) - logit(checked_rate(from_rate)))


def rebase(probabilities: ArrayLike, from_rate: float, to_rate: float) -> NDArray[np.float64]:
    """Probabilities stated at one base rate, restated at another: float64 (n,).

    By Bayes' theorem the log-odds shift by logit(to_rate) - logit(from_rate). That is exact where only the share of
    duplicates differs, and duplicates and distinct pairs each look as they did (Elkan 2001).

    Raises:
        InputError: A rate not strictly between 0 and 1, or probabilities outside [0, 1].
    """
    shift = log_odds_shift(from_rate, to_rate)
    values = np.asarray(probabilities, dtype=np.float64)
    if not values.size:
        return values
    checked = checked_probabilities(values)
    return checked.copy() if shift == 0 else np.asarray(expit(logit(checked) + shift))
