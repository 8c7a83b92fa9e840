"""Ensembles whose members differ by what they were trained on; `BlendScorer` adds up their scores."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dupq.errors import InputError


def cluster_pairs(left: NDArray[Any], right: NDArray[Any], clusters: int, seed: int = 0) -> NDArray[np.int64]:
    """Parts pairs by what they are about, for an ensemble with one member a part: k-means on their mean vectors.

    Members that saw different questions err on different ones (Jacobs et al. 1991), and each is trained in a fraction
    of the time; members on seeds see all, and differ less.

    Args:
        left, right: Embeddings of the two questions of n pairs, (n, d).
        clusters: Parts, at most n.
        seed: Of the first centres.

    Returns:
        int64 array (n,), each in [0, clusters). It does not depend on the order within a pair.

    Raises:
        InputError: Fewer than 2 parts, or more than pairs.
    """
    from sklearn.cluster import KMeans

    if not 2 <= clusters <= len(left):
        raise InputError(f"{len(left)} pairs cannot be parted in {clusters}", mend="name 2 parts or more")
    middles = np.asarray(left, dtype=np.float64) + np.asarray(right, dtype=np.float64)
    middles /= np.maximum(np.linalg.norm(middles, axis=1, keepdims=True), 1e-12)
    return np.asarray(KMeans(clusters, n_init=4, random_state=seed).fit_predict(middles), dtype=np.int64)
