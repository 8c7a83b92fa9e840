"""Exact nearest rows, by products in double precision: the truth that a search is compared with."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from dupq.models.batching import chunks

PART = 16_384


def nearest(rows: NDArray[np.float32], queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Return the k nearest rows of each query, int64 (m, k); at equal cosine, the earlier row first."""
    parts = ((np.arange(part.start, part.stop), rows[part]) for part in chunks(len(rows), PART))
    return nearest_of(parts, queries, k)


def nearest_of(
    parts: Iterable[tuple[NDArray[np.int64], NDArray[np.floating]]], queries: NDArray[np.float32], k: int
) -> NDArray[np.int64]:
    """Return the names of the k nearest rows of each query, int64 (m, k).

    Args:
        parts: Names (n,) and rows (n, d), part by part, so that they need not fit into memory.
        queries: float32 (m, d).
        k: Number of rows to return; fewer if there are fewer.
    """
    best = np.zeros((len(queries), 0), np.int64)
    cosine = np.zeros((len(queries), 0))
    for names, rows in parts:
        cosine = np.hstack([cosine, queries.astype(np.float64) @ rows.astype(np.float64).T])
        best = np.hstack([best, np.broadcast_to(names, (len(queries), len(rows)))])
        order = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
        cosine, best = np.take_along_axis(cosine, order, axis=1), np.take_along_axis(best, order, axis=1)
    return best
