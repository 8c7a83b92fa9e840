"""Log-odds and effective sample size, without the slow import of scipy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def expit(log_odds: ArrayLike) -> NDArray[np.float64]:
    """Compute 1 / (1 + exp(-x)), in [0, 1], without overflow."""
    return np.asarray(np.exp(-np.logaddexp(0.0, -np.asarray(log_odds, dtype=np.float64))))


def logit(probabilities: ArrayLike) -> NDArray[np.float64]:
    """Compute ln(p / (1 - p)); -inf at 0 and inf at 1."""
    p = np.asarray(probabilities, dtype=np.float64)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(p) - np.log1p(-p))


def effective_size(values: NDArray[Any], groups: NDArray[np.int64]) -> float:
    """Compute the effective sample size of the mean of 0/1 values, in [1, n].

    It is n over the design effect (Kish 1965): the variance of the mean between groups over that of independent pairs.
    A design effect below 1 is taken as 1. Where all values are the same, it is that of groups whose members always
    agree.
    """
    n = len(values)
    if n == 0:
        return 0.0
    _, index = np.unique(groups, return_inverse=True)
    size = np.bincount(index).astype(np.float64)
    mean = float(np.mean(values))
    if mean in (0.0, 1.0):
        return n * n / float(size @ size)
    if len(size) == 1:
        return 1.0
    spread = np.bincount(index, values) - mean * size
    variance = float(spread @ spread) / n**2 * len(size) / (len(size) - 1)
    return n / max(1.0, variance * (n - 1) / (mean * (1 - mean)))
