"""Search for similar pairs within overlapping k-means cells.

The nearest of K centroids is the home of a row, and the row visits the m - 1 next ones. Two rows are compared if one of
them visits the home of the other, or if they share it: about (2m - 1)/K of all pairs. The comparison is that of the
exact search, so that a pair that is found has the cosine of the exact search, to the last bit. Because a true pair is
found just when its rows are compared, a few assignments certify the recall of the whole search before it begins.

The work is a plan of functions of arrays, which an engine can run anywhere: `fit_cells` once, `nearest_cells` of each
shard of the rows, `search_cells` of each group of cells, and `CellMerge` of their results.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

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
from dupq.search.exact import check_search
from dupq.search.kmeans import Cells, Vectors, assigned, cell_counts, default_cells, fit_cells, nearest_cells
from dupq.search.pairs import MAX_PAIRS, NearestRows, Rows, SearchGuarantee, SimilarPairs, StrongestPairs
from dupq.search.tiles import Tile, TilePairs, WantedPairs, search_tile
from dupq.types import Progress

Ints = NDArray[np.int64]

OVERLAPS = (1, 2, 4, 8, 16)
TARGET = 0.99
SAMPLE = 1000
SCAN = 262_144
"""Rows whose cells are scanned at a time for the members of a group."""
GROUP_PRODUCTS = 2**31
"""Pairs that a group compares at most, some seconds of one core."""
GROUP_ROWS = 2**18
"""Rows that a group holds at most, one as often as it has cells there; a cell is never divided."""


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


# ---- certificate --------------------------------------------------------------------------------------------------


def needed_overlap(true: TruePairs, vectors: Rows, others: Rows | None, centroids: Vectors, most: int) -> Ints:
    """Return the smallest overlap at which each of p true pairs is compared.

    The result is int64 (p,): K + 1 for a pair that is not compared at the largest overlap.

    Args:
        true: The pairs.
        vectors, others: As for `exact.similar_pairs`.
        centroids: float32 (K, d).
        most: The largest overlap.
    """
    sides = []
    for rows, numbers in ((vectors, true.left), (vectors if others is None else others, true.right)):
        distinct, place = np.unique(numbers, return_inverse=True)
        sides.append(nearest_cells(rows[distinct], centroids, most)[place])
    return first_shared(sides[0], sides[1], len(centroids))


def first_shared(left: Cells, right: Cells, count: int) -> Ints:
    """Return the smallest overlap at which each of p pairs is compared.

    The result is int64 (p,): K + 1 for a pair that is not compared at the largest overlap, m.

    Args:
        left, right: Cells of both rows of each pair, int32 (p, m).
        count: Number K of cells.
    """
    never, most = count + 1, left.shape[1]
    if not most or not len(left):
        return np.full(len(left), never)
    ranks = [
        np.where(a == b[:, :1], np.arange(1, most + 1), never).min(axis=1) for a, b in ((left, right), (right, left))
    ]
    return np.asarray(np.minimum(*ranks), np.int64)


def plan_cells(
    vectors: Rows,
    others: Rows | None,
    wanted: WantedPairs,
    *,
    cells: int | None = None,
    overlap: int | None = None,
    target: float = TARGET,
    sample: int = SAMPLE,
    seed: int = 0,
) -> CellPlan:
    """Fit cells, choose their overlap, and certify the recall.

    The overlap is chosen on one sample of questions, and the recall certified on another.

    Args:
        vectors, others: As for `exact.similar_pairs`.
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
    cells = default_cells(len(inside)) if cells is None else as_int(cells, "cells", 1)
    if overlap is not None:
        as_int(overlap, "overlap", 1, max(*OVERLAPS, cells))
    centroids = fit_cells(inside, cells, seed=as_seed(seed))
    samples = draw_samples(len(vectors), sample, seed)
    own = None if wanted.shared_from is None else np.arange(len(vectors)) - wanted.shared_from
    true = true_pairs(vectors, others, np.concatenate(samples), wanted, own)
    needed = needed_overlap(true, vectors, others, centroids, largest_overlap(overlap))
    return choose_plan(true, needed, samples, wanted, centroids, overlap, target)


def largest_overlap(overlap: int | None) -> int:
    """Return the number of cells of a row that a plan compares.

    `overlap` is that of `plan_cells`.
    """
    return max(*OVERLAPS, overlap or 1)


def choose_plan(
    true: TruePairs,
    needed: Ints,
    samples: tuple[Ints, Ints],
    wanted: WantedPairs,
    centroids: Vectors,
    overlap: int | None,
    target: float,
) -> CellPlan:
    """Choose the overlap on one sample, and certify the recall on the other.

    Args:
        true: Pairs of both samples.
        needed: Their `needed_overlap`, up to `largest_overlap`.
        samples: Those of `draw_samples`.
        wanted, overlap, target: As for `plan_cells`.
        centroids: float32 (K, d).

    Raises:
        InputError: The recall is below the target.
    """
    first, second = (np.isin(true.left, sample) for sample in samples)
    if overlap is None:
        overlap = choose_overlap(true.part(first, len(samples[0])), needed[first], target)
    return certify(true.part(second, len(samples[1])), needed[second], wanted, centroids, overlap, target)


def draw_samples(n: int, sample: int, seed: int) -> tuple[Ints, Ints]:
    """Draw two samples of the rows that share no row.

    The overlap is chosen on the first, and the recall certified on the second.
    """
    picked = np.random.default_rng([seed, 1]).choice(n, size=min(n, 2 * sample), replace=False)
    first, second = np.array_split(picked.astype(np.int64), 2)
    return first, second


def choose_overlap(true: TruePairs, needed: Ints, target: float) -> int:
    """Return the smallest overlap whose recall interval lies above the target.

    It is one of `OVERLAPS`, the largest if none reaches the target.

    Args:
        true: Pairs of the first sample.
        needed: Their `needed_overlap`.
        target: The lowest recall.
    """
    reached = (m for m in OVERLAPS if measured_recall(true, needed <= m).low >= target)
    return next(reached, max(OVERLAPS))


def certify(
    true: TruePairs, needed: Ints, wanted: WantedPairs, centroids: Vectors, overlap: int, target: float
) -> CellPlan:
    """Certify the recall of a search from the cells of sampled pairs alone.

    Args:
        true: Pairs of a sample that the overlap was not chosen on.
        needed: Their `needed_overlap`.
        wanted, overlap, target: As for `plan_cells`.
        centroids: float32 (K, d).

    Raises:
        InputError: The recall is below the target.
    """
    count = len(centroids)
    overlap = max(1, min(overlap, count))
    hit = needed <= overlap
    recall = measured_recall(true, hit)
    if recall.value < target:
        raise InputError(
            f"the recall of the search by cells must be at least {target:g}, got {recall.value:.4f} (95 % interval "
            f"{recall.low:.4f} to {recall.high:.4f}) with K = {count:,} cells and overlap m = {overlap}",
            hint="search exactly (in mining: raise approximate_above), or try a larger overlap "
            f"(m = {min(2 * overlap, count)}) or fewer cells (K = {max(1, count // 2):,})",
        )
    return CellPlan(centroids, overlap, recall, recall_by_band(true, hit, wanted.threshold), true)


# ---- units --------------------------------------------------------------------------------------------------------


def group_cells(
    left: Ints, right: Ints | None, wanted: WantedPairs, *, products: int | None = None, rows: int | None = None
) -> list[slice]:
    """Divide the cells into groups, each a range of cells.

    A cell is never divided, and may be larger than a group should be.

    Args:
        left, right: `cell_counts` of both sides; `right` is None within one collection.
        wanted: The search.
        products: Pairs of a group; None: `GROUP_PRODUCTS`.
        rows: Rows of a group; None: `GROUP_ROWS`.
    """
    products, rows = products or GROUP_PRODUCTS, rows or GROUP_ROWS
    work = cell_products(left, right, wanted)
    members = left.sum(axis=0) + (0 if right is None else right.sum(axis=0))
    groups, start, held, many = [], 0, 0, 0
    for cell, (pairs, size) in enumerate(zip(work.tolist(), members.tolist(), strict=True)):
        if held and (held + pairs > products or many + size > rows):
            groups.append(slice(start, cell))
            start, held, many = cell, 0, 0
        held, many = held + pairs, many + size
    return [*groups, slice(start, len(work))] if held else groups


def cell_products(left: Ints, right: Ints | None, wanted: WantedPairs) -> Ints:
    """Return the number of pairs that each cell compares, int64 (K,).

    The arguments are those of `group_cells`.
    """
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
) -> TilePairs:
    """Search a group of cells.

    Each pair is in the result of one cell only, the lower of those that compare it. Memory: the members of one cell,
    and at most 2·`max_pairs` pairs.

    Args:
        vectors, others: As for `exact.similar_pairs`.
        cells, other_cells: Cells of all rows of both; `other_cells` is None within one collection.
        group: Cells from `group.start` to `group.stop`.
        wanted: The search.
    """
    inside, inside_cells = (vectors, cells) if others is None or other_cells is None else (others, other_cells)
    one, shared_from = wanted.one, 0 if wanted.one else wanted.shared_from
    both_ways = shared_from is not None and not wanted.triangle
    # A tile that compares both ways holds a pair twice.
    local = replace(wanted, one=False, shared_from=None, max_pairs=(1 + both_ways) * wanted.max_pairs)
    pairs = StrongestPairs(wanted.threshold, wanted.max_pairs, repeats=both_ways, shared_from=wanted.shared_from)
    found: list[tuple[Ints, Ints, NDArray[np.float64]]] = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    dropped = rescored = 0
    left_members = [*_members(cells, group)]
    right_members = left_members if one else [*_members(inside_cells, group)]
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
            own = None if search.one or shared_from is None else _own(rows - shared_from, columns)
            part = search_tile(vectors[rows], inside[columns], tile, search, own=own)
            dropped = max(dropped, -(-part.dropped // (1 + both_ways)))
            rescored += part.rescored
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
    for start, stop in pairwise(edges):
        yield row[start:stop][is_home[start:stop]], row[start:stop][~is_home[start:stop]]


def _own(number: Ints, columns: Ints) -> Ints:
    """Return the place of each number among the columns of a tile, or -1."""
    place = np.minimum(np.searchsorted(columns, number), len(columns) - 1)
    return np.where(columns[place] == number, place, -1)


def _reported(i: Ints, j: Ints, cells: Cells, other_cells: Cells, cell: int) -> NDArray[np.bool_]:
    """Return True for the pairs of a cell that no lower cell compares."""
    a, b = cells[i], other_cells[j]
    at_home = b[:, 0] == cell
    other = np.where(at_home, a[:, 0], b[:, 0])
    there = np.where(at_home, (b == a[:, :1]).any(axis=1), (a == b[:, :1]).any(axis=1))
    return np.asarray(~(there & (other < cell)))


def _nearest(found: Sequence[tuple[Ints, Ints, NDArray[np.float64]]], k: int) -> tuple[Ints, Ints, NDArray[np.float64]]:
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
        self._pairs = StrongestPairs(
            wanted.threshold, wanted.max_pairs, repeats=wanted.neighbours > 0, shared_from=wanted.shared_from
        )
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
        """Return the wanted pairs of all that were added; call it once, at the end."""
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
    """Return merged pairs with their guarantee.

    Its recall is that of the pairs in the result.

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
    if (start := wanted.shared_from) is not None:
        # A sampled question may be either row of its pair; the result has the lower one on the left.
        i, j = true.left, true.right + start
        true = replace(true, left=np.minimum(i, j), right=np.maximum(i, j) - start)
    hit = found_of(true, pairs.left, pairs.right, columns, one=wanted.one)
    return SimilarPairs(pairs.left, pairs.right, pairs.cosine, with_recall(guarantee, measured_recall(true, hit)))


def cell_pairs(
    vectors: Rows,
    others: Rows | None = None,
    *,
    threshold: float,
    neighbours: int = 0,
    every_from: float = 1.0,
    shared_from: int | None = None,
    max_pairs: int = MAX_PAIRS,
    cells: int | None = None,
    overlap: int | None = None,
    target: float = TARGET,
    sample: int = SAMPLE,
    seed: int = 0,
    progress: Progress | None = None,
) -> SimilarPairs:
    """Find most pairs at or above a cosine threshold, with a certified recall.

    Memory: the cells of all rows (4·m bytes a row), with neighbours 16·`neighbours` bytes a row, one cell, and at most
    2·`max_pairs` pairs.

    Args:
        vectors, others, threshold, neighbours, every_from, shared_from, max_pairs: As for `exact.similar_pairs`.
        cells, overlap, target, sample, seed: As for `plan_cells`.
        progress: Called with (pairs compared, pairs to compare).

    Raises:
        InputError: As `exact.similar_pairs`, or the recall is below the target.
    """
    check_search(vectors, others, threshold, max_pairs)
    wanted = WantedPairs(threshold, neighbours, every_from, max_pairs, one=others is None, shared_from=shared_from)
    plan = plan_cells(vectors, others, wanted, cells=cells, overlap=overlap, target=target, sample=sample, seed=seed)
    n, m, count = len(vectors), len(vectors if others is None else others), len(plan.centroids)
    left = assigned(vectors, plan.centroids, plan.overlap)
    right = None if others is None else assigned(others, plan.centroids, plan.overlap)
    counts = cell_counts(left, count), None if right is None else cell_counts(right, count)
    work = cell_products(*counts, wanted)
    total, done, merge = int(work.sum()), 0, CellMerge(wanted, 0, n)
    for group in group_cells(*counts, wanted):
        merge.add(search_cells(vectors, others, left, right, group, wanted))
        done += int(work[group].sum())
        if progress is not None:
            progress(done, total)
    return cell_result(merge.pairs(), plan, n, m, total, wanted)
