"""Probabilities to log-odds and back, without the fifth of a second that importing scipy.special takes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def expit(log_odds: ArrayLike) -> NDArray[np.float64]:
    """1 / (1 + exp(-x)), in [0, 1], of the same shape; nothing overflows."""
    return np.asarray(np.exp(-np.logaddexp(0.0, -np.asarray(log_odds, dtype=np.float64))))


def logit(probabilities: ArrayLike) -> NDArray[np.float64]:
    """ln(p / (1 - p)), of the same shape; -inf at 0 and inf at 1."""
    p = np.asarray(probabilities, dtype=np.float64)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(p) - np.log1p(-p))
