"""Cells of vectors around k-means centroids.

A row belongs to its nearest cell and to the next ones.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dupq.errors import InputError
from dupq.models.batching import chunks
from dupq.search.exact import dot
from dupq.search.kernels import UNIT_TOLERANCE
from dupq.search.pairs import Rows

Ints = NDArray[np.int64]
Cells = NDArray[np.int32]
"""The cells of n rows, home first, then by falling cosine, int32 (n, m); -1 throughout for a row of zeros."""
Vectors = NDArray[np.float32]

ROWS_PER_CELL = 64
"""Rows that a centroid is fitted on."""
PASSES = 10
"""Passes over those rows."""
BATCH_PER_CELL = 8
"""Rows of a mini-batch for each centroid."""
PART = 4096
"""Rows that are assigned at a time."""
_SUM_ERROR = 2.0**-23


def default_cells(n: int) -> int:
    """Return the default number of cells for n rows, twice the root of n.

    Assignment and search then take about equally long.
    """
    return max(1, round(2 * math.sqrt(n)))


def fit_cells(vectors: Rows, cells: int, *, seed: int = 0) -> Vectors:
    """Fit centroids by spherical mini-batch k-means, float32 (K, d).

    Sources: Sculley 2010; Dhillon & Modha 2001. Equal arguments give equal centroids. Memory: `ROWS_PER_CELL`·K rows
    and a product of `PART` rows with K.

    Args:
        vectors: float32 (n, d), rows of unit length or zero.
        cells: Number of centroids; fewer are fitted where the sample has fewer rows that are not zero.
        seed: Seed of the sample and of its order.
    """
    return fit_centroids(vectors[fit_sample(len(vectors), cells, seed)], cells, seed=seed)


def fit_sample(n: int, cells: int, seed: int) -> Ints:
    """Draw the rows, of n, that centroids are fitted on, rising."""
    draw = np.random.default_rng([seed, 2])
    return np.sort(draw.choice(n, size=min(n, ROWS_PER_CELL * cells), replace=False).astype(np.int64))


def fit_centroids(rows: Vectors, cells: int, *, seed: int) -> Vectors:
    """Fit centroids on the rows of `fit_sample`, float32 (K, d).

    The arguments are those of `fit_cells`.
    """
    draw = np.random.default_rng(seed)
    rows = np.ascontiguousarray(rows, np.float32)
    rows = rows[rows.any(axis=1)]
    count = min(cells, len(rows))
    if not count:
        return np.zeros((0, rows.shape[1]), np.float32)
    centroids = rows[draw.permutation(len(rows))[:count]].copy()
    weight = np.zeros(count)
    for at in range(PASSES):
        order, sizes = draw.permutation(len(rows)), np.zeros(count, np.int64)
        near = np.empty(len(rows))
        # Old means fade, because the rows that made them may have gone to other cells.
        weight /= 2
        for part in chunks(len(rows), max(BATCH_PER_CELL * count, PART)):
            batch = rows[order[part]]
            home = nearest_cells(batch, centroids, 1)[:, 0].astype(np.int64)
            near[order[part]] = dot(batch, centroids[home])
            size = np.bincount(home, minlength=count)
            by_cell = np.argsort(home, kind="stable")
            filled = np.flatnonzero(size)
            starts = np.cumsum(size)[filled] - size[filled]
            sums = np.add.reduceat(batch[by_cell].astype(np.float64), starts, axis=0)
            moved = weight[filled, None] * centroids[filled] + sums
            length = np.linalg.norm(moved, axis=1, keepdims=True)
            kept = length[:, 0] > 0  # opposite rows may cancel
            centroids[filled[kept]] = (moved / np.where(length > 0, length, 1.0))[kept]
            weight += size
            sizes += size
        empty = np.flatnonzero(sizes == 0)
        if len(empty) and at < PASSES - 1:
            # An empty cell begins again at a row that is far from its centroid.
            centroids[empty] = rows[np.argsort(near, kind="stable")[: len(empty)]]
            weight[empty] = 0
    return centroids


def nearest_cells(rows: Vectors, centroids: Vectors, overlap: int) -> Cells:
    """Return the cells of rows; those at equal cosine go by their number.

    A product in float32 selects, and double precision decides, so that a row has the same cells in every batch.

    Args:
        rows: float32 (n, d), of unit length or zero.
        centroids: float32 (K, d).
        overlap: Number m of cells of a row; K where there are fewer.

    Raises:
        InputError: A row that is neither of unit length nor zero.
    """
    count, d = centroids.shape
    m = min(overlap, count)
    found = np.full((len(rows), m), -1, np.int32)
    for part in chunks(len(rows) if m else 0, PART):
        block = np.ascontiguousarray(rows[part], np.float32)
        lengths = np.sqrt(np.einsum("ij,ij->i", block, block, dtype=np.float64))
        wrong = np.flatnonzero(~((np.abs(lengths - 1) <= UNIT_TOLERANCE) | (lengths == 0)))
        if len(wrong):
            raise InputError(
                f"row {part.start + int(wrong[0])} must have the length 1, got {lengths[wrong[0]]:.4g}",
                hint="divide each row by its length; drop rows with NaN",
            )
        known = np.flatnonzero(lengths)
        block = block[known]
        rough = block @ centroids.T
        kth = rough.max(axis=1) if m == 1 else np.partition(rough, count - m, axis=1)[:, count - m]
        # Both this cell and the one that it is compared with may be off by the error of a sum (see `kernels`).
        least = kth - np.float32(2 * (1 + UNIT_TOLERANCE) ** 2 * d * _SUM_ERROR)
        row, cell = np.nonzero(rough >= least[:, None])
        order = np.lexsort((cell, -dot(block[row], centroids[cell]), row))
        first = np.searchsorted(row, np.arange(len(known)))
        found[part.start + known] = cell[order[first[:, None] + np.arange(m)]]
    return found


def assigned(vectors: Rows, centroids: Vectors, overlap: int) -> Cells:
    """Return the cells of all rows of a file or an array."""
    parts = [nearest_cells(vectors[part], centroids, overlap) for part in chunks(len(vectors), PART)]
    return np.concatenate([np.zeros((0, min(overlap, len(centroids))), np.int32), *parts])


def cell_counts(cells: Cells, count: int) -> Ints:
    """Count the rows at home in each of K cells, and those that visit it.

    The counts are int64 (2, K); those of shards may be summed.
    """
    home = np.bincount(cells[:, 0][cells[:, 0] >= 0], minlength=count) if cells.shape[1] else np.zeros(count)
    every = np.bincount(cells[cells >= 0], minlength=count)
    return np.stack([home, every - home]).astype(np.int64)
