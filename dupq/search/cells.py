"""Search for similar pairs within overlapping k-means cells, with a recall that is certified before the search begins.

The nearest of K centroids is the home of a row, and the row visits the m - 1 next ones. Two rows are compared if one of
them visits the home of the other, or if they share it: about (2m - 1)/K of all pairs. The comparison is that of the
exact search, so that a pair that is found has the cosine of the exact search, to the last bit. Because a true pair is
found just when its rows are compared, a few assignments measure the recall of the whole search.

The work is a plan of functions of arrays, which an engine can run anywhere: `fit_cells` once, `nearest_cells` of each
shard of the rows, `search_cells` of each group of cells, and `CellMerge` of their results.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dupq.data.arguments import as_int, as_number, as_seed
from dupq.errors import InputError
from dupq.models.batching import chunks
from dupq.search.certificate import (
    Recall,
    TruePairs,
    found_of,
    measured_recall,
    recall_by_band,
    true_pairs,
    with_recall,
)
from dupq.search.exact import check_search, dot
from dupq.search.kernels import UNIT_TOLERANCE
from dupq.search.pairs import MAX_PAIRS, NearestRows, Rows, SearchGuarantee, SimilarPairs, StrongestPairs
from dupq.search.tiles import Tile, TilePairs, WantedPairs, search_tile
from dupq.types import Progress

Ints = NDArray[np.int64]
Cells = NDArray[np.int32]
"""The cells of n rows, home first, then by falling cosine, int32 (n, m); -1 throughout for a row of zeros."""
Vectors = NDArray[np.float32]

OVERLAPS = (1, 2, 4, 8, 16)
TARGET = 0.99
SAMPLE = 1000
ROWS_PER_CELL = 64
"""Rows that a centroid is fitted on."""
PASSES = 10
BATCH_PER_CELL = 8
PART = 4096
"""Rows that are assigned at a time."""
SCAN = 262_144
"""Rows whose cells are scanned at a time for the members of a group."""
GROUP_PRODUCTS = 2**31
"""Pairs that a group compares, some seconds of one core."""
_SUM_ERROR = 2.0**-23


@dataclass(frozen=True, slots=True)
class CellPlan:
    """Centroids and overlap of a search, with their certificate.

    Attributes:
        centroids: float32 (K, d), of unit length.
        overlap: Number m of cells of a row.
        recall: Recall of the search, measured on a sample that m was not chosen on.
        bands: Recall of each band of cosine.
        true: The pairs of that sample.
    """

    centroids: Vectors
    overlap: int
    recall: Recall
    bands: dict[tuple[float, float], Recall]
    true: TruePairs


# ---- cells --------------------------------------------------------------------------------------------------------


def default_cells(n: int) -> int:
    """Return the number of cells for n rows: at twice the root, assignment and search take about as long."""
    return max(1, round(2 * float(n) ** 0.5))


def fit_cells(vectors: Rows, cells: int, *, seed: int = 0) -> Vectors:
    """Fit centroids by spherical mini-batch k-means (Sculley 2010; Dhillon & Modha 2001), float32 (K, d).

    Equal arguments give equal centroids. Memory: `ROWS_PER_CELL`·K rows and a product of `PART` rows with K.

    Args:
        vectors: float32 (n, d), rows of unit length or zero.
        cells: Number of centroids; fewer are fitted where the sample has fewer rows that are not zero.
        seed: Seed of the sample and of its order.
    """
    draw = np.random.default_rng(seed)
    n = len(vectors)
    picked = np.sort(draw.choice(n, size=min(n, ROWS_PER_CELL * cells), replace=False)) if n else np.zeros(0, np.int64)
    rows = np.ascontiguousarray(vectors[picked], np.float32)
    rows = rows[rows.any(axis=1)]
    count = min(cells, len(rows))
    if not count:
        return np.zeros((0, vectors.shape[1]), np.float32)
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
    """Count the rows at home in each of K cells, and those that visit it, int64 (2, K); shards may be summed."""
    home = np.bincount(cells[:, 0][cells[:, 0] >= 0], minlength=count) if cells.shape[1] else np.zeros(count)
    every = np.bincount(cells[cells >= 0], minlength=count)
    return np.stack([home, every - home]).astype(np.int64)


# ---- certificate --------------------------------------------------------------------------------------------------


def compared(true: TruePairs, vectors: Rows, others: Rows | None, centroids: Vectors) -> Ints:
    """Return the smallest overlap at which each of p true pairs is compared, int64 (p,); K + 1 beyond the largest.

    Args:
        true: The pairs.
        vectors, others: As for `exact.similar_pairs`.
        centroids: float32 (K, d).
    """
    most = min(max(OVERLAPS), len(centroids))
    sides = []
    for rows, numbers in ((vectors, true.left), (vectors if others is None else others, true.right)):
        distinct, place = np.unique(numbers, return_inverse=True)
        sides.append(nearest_cells(rows[distinct], centroids, most)[place])
    left, right = sides
    never = len(centroids) + 1
    if not most or not len(left):
        return np.full(len(left), never)
    ranks = [np.where(a == b[:, :1], np.arange(1, most + 1), never).min(axis=1) for a, b in ((left, right), (right, left))]
    return np.asarray(np.minimum(*ranks), np.int64)


def plan_cells(
    vectors: Rows,
    others: Rows | None,
    wanted: WantedPairs,
    *,
    own: Ints | None = None,
    cells: int | None = None,
    overlap: int | None = None,
    target: float = TARGET,
    sample: int = SAMPLE,
    seed: int = 0,
) -> CellPlan:
    """Fit cells, choose their overlap on one sample of questions, and certify the recall on another.

    The overlap is the smallest of `OVERLAPS` whose recall reaches the target with the lower end of its interval, or the
    largest one. The recall that is stated and checked is that of the second sample. No search is needed for it.

    Args:
        vectors, others, own: As for `exact.similar_pairs`.
        wanted: The search.
        cells: Number K of cells; None: `default_cells`.
        overlap: Number m of cells of a row, at most 16 or K; None: chosen.
        target: The lowest recall, in (0, 1].
        sample: Number of questions of each sample.
        seed: Seed of the cells and of the samples.

    Raises:
        InputError: The recall is below the target, or as `exact.similar_pairs`.
    """
    as_number(target, "target", 0, 1, above=True, hint="try 0.99")
    as_int(sample, "sample", 1)
    inside = vectors if others is None else others
    if cells is None:
        cells = default_cells(len(inside))
    as_int(cells, "cells", 1)
    if overlap is not None:
        as_int(overlap, "overlap", 1, max(*OVERLAPS, cells))
    centroids = fit_cells(inside, cells, seed=as_seed(seed))
    draw = np.random.default_rng([seed, 1])
    picked = draw.choice(len(vectors), size=min(len(vectors), 2 * sample), replace=False).astype(np.int64)
    first, second = np.array_split(picked, 2)
    if overlap is None:
        true = true_pairs(vectors, others, first, wanted, own)
        needed = compared(true, vectors, others, centroids)
        reached = (m for m in OVERLAPS if measured_recall(true, needed <= m, seed=seed).low >= target)
        overlap = next(reached, max(OVERLAPS))
    overlap = max(1, min(overlap, len(centroids)))
    true = true_pairs(vectors, others, second, wanted, own)
    hit = compared(true, vectors, others, centroids) <= overlap
    if overlap >= len(centroids):
        hit[:] = True
    recall = measured_recall(true, hit, seed=seed)
    if recall.value < target:
        raise InputError(
            f"the recall of the search by cells must be at least {target:g}, got {recall.value:.4f} (95 % interval "
            f"{recall.low:.4f} to {recall.high:.4f}) with K = {len(centroids):,} cells and overlap m = {overlap}",
            hint=f"try a larger overlap (m = {2 * overlap}), fewer cells (K = {max(1, len(centroids) // 2):,}), "
            "or the exact search",
        )
    return CellPlan(centroids, overlap, recall, recall_by_band(true, hit, wanted.threshold, seed=seed), true)


# ---- units --------------------------------------------------------------------------------------------------------


def group_cells(left: Ints, right: Ints | None, wanted: WantedPairs, *, products: int = GROUP_PRODUCTS) -> list[slice]:
    """Return ranges of cells that compare about `products` pairs each; a cell is never divided.

    Args:
        left, right: `cell_counts` of both sides; `right` is None within one collection.
        wanted: The search.
        products: Pairs of a group, unless one cell has more.
    """
    work = cell_products(left, right, wanted)
    groups, start, held = [], 0, 0
    for cell, pairs in enumerate(work.tolist()):
        if held and held + pairs > products:
            groups.append(slice(start, cell))
            start, held = cell, 0
        held += pairs
    return [*groups, slice(start, len(work))] if held else groups


def cell_products(left: Ints, right: Ints | None, wanted: WantedPairs) -> Ints:
    """Return the number of pairs that each cell compares, int64 (K,); arguments as for `group_cells`."""
    home, visits = left
    if wanted.triangle:
        return np.asarray(home * (home - 1) // 2 + home * visits)
    others, other_visits = left if right is None else right
    return np.asarray((home + visits) * others + home * other_visits)


def search_cells(
    vectors: Rows,
    others: Rows | None,
    cells: Cells,
    other_cells: Cells | None,
    group: slice,
    wanted: WantedPairs,
    *,
    own: Ints | None = None,
) -> TilePairs:
    """Search a group of cells.

    Each pair is in the result of one cell only, the lower of those that compare it. Memory: the members of one cell,
    and at most 2·`max_pairs` pairs.

    Args:
        vectors, others, own: As for `exact.similar_pairs`.
        cells, other_cells: Cells of all rows of both; `other_cells` is None within one collection.
        group: Cells from `group.start` to `group.stop`.
        wanted: The search.
    """
    inside, inside_cells = (vectors, cells) if others is None or other_cells is None else (others, other_cells)
    one = wanted.one
    local = replace(wanted, one=False)
    pairs = StrongestPairs(wanted.threshold, wanted.max_pairs, repeats=one and wanted.neighbours > 0)
    found: list[tuple[Ints, Ints, NDArray[np.float64]]] = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    dropped = rescored = 0
    left_members = _members(cells, group)
    right_members = left_members if one else _members(inside_cells, group)
    for cell, (home, visits), (others_home, other_visits) in zip(
        range(group.start, group.stop), left_members, right_members, strict=True
    ):
        jobs = [(np.union1d(home, visits), others_home, local), (home, other_visits, local)]
        if wanted.triangle:
            jobs = [(home, home, wanted), (visits, home, local)]
        for rows, columns, search in jobs:
            if not len(rows) or not len(columns):
                continue
            tile = Tile(0, len(rows), 0, len(columns))
            part = search_tile(
                vectors[rows], inside[columns], tile, search, own=None if search.one else _own(rows, columns, own, one)
            )
            dropped, rescored = max(dropped, part.dropped), rescored + part.rescored
            i, j = rows[part.left], columns[part.right]
            kept = _reported(i, j, cells, inside_cells, cell)
            i, j, cosine = i[kept], j[kept], part.cosine[kept]
            if one:
                i, j = np.minimum(i, j), np.maximum(i, j)
            pairs.add(i, j, cosine)
            row, column = rows[part.row], columns[part.column]
            kept = _reported(row, column, cells, inside_cells, cell)
            found.append((row[kept], column[kept], part.nearest[kept]))
    left, right, cosine = pairs.columns()
    row, column, near = _nearest(found, wanted.neighbours)
    return TilePairs(left, right, cosine, row, column, near, max(dropped, pairs.dropped), rescored)


def _members(cells: Cells, group: slice) -> Iterator[tuple[Ints, Ints]]:
    """Yield the rows at home in each cell of a group, and those that visit it, rising."""
    rows, at, home = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0, np.bool_)]
    for part in chunks(len(cells), SCAN):
        block = np.asarray(cells[part])
        row, place = np.nonzero((block >= group.start) & (block < group.stop))
        rows.append(part.start + row)
        at.append(block[row, place].astype(np.int64))
        home.append(place == 0)
    row, cell, is_home = np.concatenate(rows), np.concatenate(at), np.concatenate(home)
    order = np.argsort(cell, kind="stable")
    row, is_home = row[order], is_home[order]
    edges = np.searchsorted(cell[order], np.arange(group.start, group.stop + 1)).tolist()
    for start, stop in zip(edges, edges[1:], strict=False):
        yield row[start:stop][is_home[start:stop]], row[start:stop][~is_home[start:stop]]


def _own(rows: Ints, columns: Ints, own: Ints | None, one: bool) -> Ints | None:
    """Return the place of each row itself among the columns of a tile, or -1."""
    if own is None and not one:
        return None
    number = rows if own is None or one else own[rows]
    place = np.minimum(np.searchsorted(columns, number), len(columns) - 1)
    return np.where(columns[place] == number, place, -1)


def _reported(i: Ints, j: Ints, cells: Cells, other_cells: Cells, cell: int) -> NDArray[np.bool_]:
    """Return True for the pairs of a cell that no lower cell compares."""
    a, b = cells[i], other_cells[j]
    at_home = b[:, 0] == cell
    other = np.where(at_home, a[:, 0], b[:, 0])
    there = np.where(at_home, (b == a[:, :1]).any(axis=1), (a == b[:, :1]).any(axis=1))
    return np.asarray(~(there & (other < cell)))


def _nearest(
    found: Sequence[tuple[Ints, Ints, NDArray[np.float64]]], k: int
) -> tuple[Ints, Ints, NDArray[np.float64]]:
    """Keep the k nearest columns of each row, sorted by row."""
    row, column, cosine = (np.concatenate(values) for values in zip(*found, strict=True))
    order = np.lexsort((column, -cosine, row))
    row, column, cosine = row[order], column[order], cosine[order]
    first = np.searchsorted(row, row)
    kept = np.arange(len(row)) - first < k
    return row[kept], column[kept], cosine[kept]


class CellMerge:
    """Collector of the results of groups of cells; they may come in any order.

    With neighbours it holds the k nearest of each row of its range: rows are merged range by range, and then the ranges
    by another collector without rows.

    Args:
        wanted: The search.
        first_row, last_row: Rows whose pairs are collected, the last one not included; pairs of a result without rows
            are all collected.
    """

    def __init__(self, wanted: WantedPairs, first_row: int, last_row: int) -> None:
        self.wanted, self.first_row, self.last_row = wanted, first_row, last_row
        self._pairs = StrongestPairs(wanted.threshold, wanted.max_pairs, repeats=wanted.neighbours > 0)
        self._nearest = None
        if wanted.neighbours and last_row > first_row:
            self._nearest = NearestRows(last_row - first_row, wanted.neighbours, wanted.threshold)
        self._dropped = self._rescored = 0

    def add(self, part: TilePairs) -> None:
        """Add the result of a group, or of another collector."""
        kept = np.ones(len(part.left), np.bool_)
        if self.last_row > self.first_row:
            kept = (part.left >= self.first_row) & (part.left < self.last_row)
        self._pairs.add(part.left[kept], part.right[kept], part.cosine[kept])
        if self._nearest is not None:
            kept = (part.row >= self.first_row) & (part.row < self.last_row)
            self._nearest.add(part.row[kept] - self.first_row, part.column[kept], part.nearest[kept])
        # Several cells may have dropped one pair.
        self._dropped = max(self._dropped, part.dropped)
        self._rescored += part.rescored

    def pairs(self) -> TilePairs:
        """Return the pairs that are wanted of all that was added; call it once, at the end."""
        none = np.zeros(0, np.int64)
        if self._nearest is not None:
            row, column, cosine = self._nearest.columns()
            below = cosine < self.wanted.every_from
            i, j = self.first_row + row[below], column[below]
            if self.wanted.one:
                i, j = np.minimum(i, j), np.maximum(i, j)
            self._pairs.add(i, j, cosine[below])
        left, right, cosine = self._pairs.columns()
        dropped = max(self._dropped, self._pairs.dropped)
        return TilePairs(left, right, cosine, none, none, np.zeros(0), dropped, self._rescored)


def cell_result(
    pairs: TilePairs, plan: CellPlan, rows: int, columns: int, products: int, wanted: WantedPairs
) -> SimilarPairs:
    """Return merged pairs with their guarantee, whose recall is that of the pairs in the result.

    Args:
        pairs: The result of a `CellMerge`.
        plan: The cells.
        rows, columns: Numbers of vectors on both sides.
        products: Number of pairs that were compared.
        wanted: The search.
    """
    full = pairs.dropped > 0 and len(pairs.cosine) > 0
    guarantee = SearchGuarantee(
        exact=False,
        method=f"k-means cells, K = {len(plan.centroids):,}, overlap m = {plan.overlap}; pairs in float64",
        left=rows,
        right=None if wanted.one else columns,
        compared=products,
        threshold=wanted.threshold,
        # Pairs as strong as the weakest kept one may have been cut, hence the next number.
        complete_above=float(np.nextafter(pairs.cosine[-1], 2.0)) if full else wanted.threshold,
        rescored=pairs.rescored,
        dropped=pairs.dropped,
        neighbours=wanted.neighbours,
        every_from=max(wanted.threshold, wanted.every_from) if wanted.neighbours else None,
    )
    true = plan.true.above(guarantee.complete_above)
    hit = found_of(true, pairs.left, pairs.right, columns, one=wanted.one)
    return SimilarPairs(pairs.left, pairs.right, pairs.cosine, with_recall(guarantee, measured_recall(true, hit)))


def cell_pairs(
    vectors: Rows,
    others: Rows | None = None,
    *,
    threshold: float,
    neighbours: int = 0,
    every_from: float = 1.0,
    own: Ints | None = None,
    max_pairs: int = MAX_PAIRS,
    cells: int | None = None,
    overlap: int | None = None,
    target: float = TARGET,
    sample: int = SAMPLE,
    seed: int = 0,
    progress: Progress | None = None,
) -> SimilarPairs:
    """Find most pairs whose cosine is at or above a threshold, with a certified recall.

    Memory: the cells of all rows (4·m bytes a row), with neighbours 16·`neighbours` bytes a row, one cell, and at most
    2·`max_pairs` pairs.

    Args:
        vectors, others, threshold, neighbours, every_from, own, max_pairs: As for `exact.similar_pairs`.
        cells, overlap, target, sample, seed: As for `plan_cells`.
        progress: Called with (pairs compared, pairs to compare).

    Raises:
        InputError: As `exact.similar_pairs`, or the recall is below the target.
    """
    check_search(vectors, others, threshold, max_pairs)
    wanted = WantedPairs(threshold, neighbours, every_from, max_pairs, one=others is None)
    plan = plan_cells(
        vectors, others, wanted, own=own, cells=cells, overlap=overlap, target=target, sample=sample, seed=seed
    )
    n, m, count = len(vectors), len(vectors if others is None else others), len(plan.centroids)
    left = assigned(vectors, plan.centroids, plan.overlap)
    right = None if others is None else assigned(others, plan.centroids, plan.overlap)
    counts = cell_counts(left, count), None if right is None else cell_counts(right, count)
    work = cell_products(*counts, wanted)
    total, done, merge = int(work.sum()), 0, CellMerge(wanted, 0, n)
    for group in group_cells(*counts, wanted):
        merge.add(search_cells(vectors, others, left, right, group, wanted, own=own))
        done += int(work[group].sum())
        if progress is not None:
            progress(done, total)
    return cell_result(merge.pairs(), plan, n, m, total, wanted)
