"""Figures with 95 % intervals by resampling whole clusters of pairs, as pairs of one cluster share their texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks.elsewhere import interval

Measure = Callable[[NDArray[np.int64]], float]
"""A figure of n rows, by their integer weights (n,)."""


def roc_auc(labels: NDArray[Any], scores: NDArray[Any]) -> Measure:
    return lambda weights: float(roc_auc_score(labels, scores, sample_weight=weights))


def average_precision(labels: NDArray[Any], scores: NDArray[Any]) -> Measure:
    return lambda weights: float(average_precision_score(labels, scores, sample_weight=weights))


def mean(values: NDArray[Any]) -> Measure:
    return lambda weights: float(np.average(values, weights=weights))


def mean_at_half(values: NDArray[Any], labels: NDArray[Any]) -> Measure:
    """The mean of rows weighted so that half of them are duplicates."""
    sides = [np.flatnonzero(labels == label) for label in (0, 1)]
    return lambda weights: float(np.mean([np.average(values[side], weights=weights[side]) for side in sides]))


def resampled(measures: Mapping[str, Measure], clusters: ArrayLike, resamples: int) -> dict[str, dict[str, float]]:
    """Return each figure and its interval; every resample is the same for all figures."""
    _, cluster = np.unique(clusters, return_inverse=True)
    rng, count = np.random.default_rng(0), int(cluster.max()) + 1
    draws = [np.bincount(rng.integers(count, size=count), minlength=count)[cluster] for _ in range(resamples)]
    every = np.ones(len(cluster), np.int64)
    return {
        name: interval(measure(every), np.array([measure(weights) for weights in draws]))
        for name, measure in measures.items()
    }
