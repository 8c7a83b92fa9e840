"""Exact search for all pairs of vectors at or above a threshold.

A fast, rough scan selects, and exact arithmetic decides. Blocks of the upper triangle are multiplied by the fastest
kernel of the machine. Every entry that could reach the threshold within the proven error of that product (see
`kernels`) is computed again from the float32 rows in double precision. Those that reach the threshold are kept.
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dupq.data.arguments import as_int, as_number
from dupq.errors import InputError
from dupq.models.batching import chunks
from dupq.search.kernels import Block, Kernel, RoughProduct, choose_kernel
from dupq.search.pairs import MAX_PAIRS, NearestRows, Rows, SearchGuarantee, SimilarPairs, StrongestPairs
from dupq.search.projection import Projection
from dupq.types import Progress

PANEL = 8192
"""Rows that stay in memory while all columns are compared with them."""
TILE_ROWS, TILE_COLUMNS = 512, 2048
"""The shape of one product, so small that its entries stay in the processor's cache."""
PART = 16_384
"""Pairs that are computed in double precision at a time."""
CHECKPOINT_SECONDS = 20.0
MIN_MEASURED_PAIRS = 4_000_000
"""Below this number of pairs, choosing a kernel takes longer than the faster one saves."""


def similar_pairs(
    vectors: Rows,
    others: Rows | None = None,
    *,
    threshold: float,
    neighbours: int = 0,
    every_from: float = 1.0,
    shared_from: int | None = None,
    max_pairs: int = MAX_PAIRS,
    kernel: Kernel | Literal["auto"] = "auto",
    projection: Projection | None = None,
    resume: str | Path | None = None,
    progress: Progress | None = None,
) -> SimilarPairs:
    """Find all pairs at or above a cosine threshold, or only the nearest of them.

    Memory does not grow with n: it holds a panel of rows with their neighbours, one tile, and at most 2·`max_pairs`
    pairs of 24 bytes. With neighbours, each pair of one collection is compared from both sides.

    Args:
        vectors: float32 (n, d), rows of unit length.
        others: float32 (m, d): find pairs between the two. None: within `vectors`, each pair once.
        threshold: The lowest cosine of a pair, in (0, 1].
        neighbours: 0: find every pair from `threshold` on. Otherwise find every pair from `every_from` on, and below
            it only pairs with one of the `neighbours` nearest rows of a row: of `vectors` in `vectors`, or of
            `vectors` in `others`. Neighbours at equal cosine go by row number.
        every_from: In (0, 1]; used with neighbours.
        shared_from: The row of `vectors` that is row 0 of `others`, where the last rows of `vectors` are the first of
            `others`. Such a row is no neighbour of itself, and two of them are one pair, the lower one on the left.
            None: no row is in both.
        max_pairs: Keep the strongest `max_pairs` where more reach the threshold; `search_guarantee` then states the
            cosine above which the result is complete.
        kernel: "auto" is the fastest one of this machine, with the fastest projection. All return the same pairs.
        projection: A bound of the products, only without `neighbours`; "auto" chooses its own.
        resume: A file to keep progress in and to resume from; at the end it holds the result.
        progress: Called with (pairs compared, pairs in all).

    Raises:
        InputError: Shapes that do not fit, rows that are not of unit length, a threshold outside (0, 1], or a `resume`
            file of another search.
        OutputError: The `resume` file could not be written.
    """
    check_search(vectors, others, threshold, max_pairs)
    n, m = len(vectors), len(vectors if others is None else others)
    triangle = others is None and not neighbours
    total = n * (n - 1) // 2 if triangle else n * m
    if kernel == "auto":
        kernel, projection = kernel_for(vectors, others, threshold, bounds=not neighbours)
    own = None if others is None else np.arange(n) - (n if shared_from is None else shared_from)
    pairs = StrongestPairs(threshold, max_pairs, repeats=neighbours > 0, shared_from=shared_from)
    options = f"{threshold!r} {neighbours} {every_from!r} {max_pairs} {shared_from}"
    search = _key(vectors, others, options) if resume else ""
    first = pairs.load(Path(resume), search) if resume else 0
    done = _products(np.arange(first), 0, m, triangle)
    saved, product = time.monotonic(), RoughProduct(kernel)
    for start in range(first, n, PANEL):
        rows = np.arange(start, min(n, start + PANEL))
        panel = Block(vectors[start : start + PANEL], kernel, projection)
        nearest = NearestRows(len(rows), min(neighbours, m), threshold) if neighbours and m else None
        for at in range(start if triangle else 0, m, TILE_COLUMNS):
            columns = (vectors if others is None else others)[at : at + TILE_COLUMNS]
            block = Block(columns, kernel, projection)
            if nearest is None:
                _compare(panel, block, start, at, pairs, product, own)
            else:
                _compare_nearest(panel, block, start, at, pairs, product, nearest, own, every_from, first=not at)
            done += _products(rows, at, at + len(columns), triangle)
            if progress is not None:
                progress(done, total)
        if nearest is not None:
            row, column, cosine = nearest.columns()
            below = cosine < every_from
            i, j = start + row[below], column[below]
            if others is None:
                i, j = np.minimum(i, j), np.maximum(i, j)
            pairs.add(i, j, cosine[below])
        if resume and time.monotonic() - saved > CHECKPOINT_SECONDS:
            pairs.save(Path(resume), search, min(n, start + PANEL))
            saved = time.monotonic()
    left, right, cosine = pairs.columns()
    if resume and first < n:
        pairs.save(Path(resume), search, n)
    search_guarantee = SearchGuarantee(
        exact=True,
        method=f"{kernel} scan, pairs in float64",
        left=n,
        right=None if others is None else m,
        compared=total,
        threshold=threshold,
        complete_above=pairs.complete_above,
        rescored=pairs.rescored,
        dropped=pairs.dropped,
        neighbours=neighbours,
        every_from=max(threshold, every_from) if neighbours else None,
    )
    return SimilarPairs(left, right, cosine, search_guarantee)


def kernel_for(
    vectors: Rows, others: Rows | None, threshold: float, *, bounds: bool
) -> tuple[Kernel, Projection | None]:
    """Return the fastest kernel and projection for a search.

    A small search gets float32 without a projection.

    Args:
        vectors, others, threshold: As in `similar_pairs`.
        bounds: True where every pair from the threshold on is wanted.
    """
    sides = sorted((vectors, vectors if others is None else others), key=len)
    # Each row is converted to the format of the kernel, which pays where it is compared with many.
    if len(sides[0]) < TILE_ROWS or len(sides[0]) * len(sides[1]) < MIN_MEASURED_PAIRS:
        return "float32", None
    return choose_kernel(sides[1], threshold, bounds=bounds)


def _compare(
    panel: Block,
    block: Block,
    start: int,
    at: int,
    pairs: StrongestPairs,
    product: RoughProduct,
    own: NDArray[np.int64] | None,
) -> None:
    """Add the pairs of a panel and a block that reach the floor.

    Args:
        panel, block, start, at, pairs, product: As in `_compare_nearest`.
        own: For each row its own column, or a negative number; None within one collection, where a pair is compared
            from its first row.
    """
    for rows in chunks(len(panel.exact), TILE_ROWS):
        if own is None and at + len(block.exact) <= start + rows.start + 1:
            return  # this tile and those under it lie below the diagonal
        left, right = product.reaching(panel, block, rows, pairs.floor)
        row, column = start + left, at + right
        other = column > row if own is None else column != own[row]
        left, right, row, column = left[other], right[other], row[other], column[other]
        for part in chunks(len(left), PART):
            pairs.add(row[part], column[part], dot(panel.exact[left[part]], block.exact[right[part]]))


def _compare_nearest(
    panel: Block,
    block: Block,
    start: int,
    at: int,
    pairs: StrongestPairs,
    product: RoughProduct,
    nearest: NearestRows,
    own: NDArray[np.int64] | None,
    every_from: float,
    *,
    first: bool,
) -> None:
    """Add a block to the nearest of a panel, and add the pairs from `every_from` on.

    Args:
        panel, block: The rows from `start` and the columns from `at` on.
        start, at: Their numbers.
        pairs, product, every_from: As in `similar_pairs`.
        nearest: The nearest columns of the panel's rows.
        own: For each row its own column, or a negative number; None within one collection, where a pair is added from
            its first row.
        first: True for the first block of these rows.
    """
    for rows in chunks(len(panel.exact), TILE_ROWS):
        if first and nearest.k < len(block.exact):
            # Without a floor, every pair of the first block would be computed in double precision. A row may be there.
            nearest.raise_floor(rows, product.kth_largest(panel, block, rows, nearest.k + 1))
        floor = np.maximum(np.minimum(nearest.floor[rows], every_from), pairs.floor)
        left, right = product.reaching(panel, block, rows, floor)
        row, column = start + left, at + right
        other = column != (row if own is None else own[row])
        left, right, row, column = left[other], right[other], row[other], column[other]
        for part in chunks(len(left), PART):
            i, j = row[part], column[part]
            cosine = dot(panel.exact[left[part]], block.exact[right[part]])
            nearest.add(left[part], j, cosine)
            every = (cosine >= every_from) & ((i < j) | (own is not None))
            pairs.add(i[every], j[every], cosine[every])


def dot(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the dot product of each row of `left` with the same row of `right`.

    It is computed in double precision, float64 (n,).
    """
    return np.asarray(np.einsum("ij,ij->i", left.astype(np.float64), right.astype(np.float64)))


def _products(rows: NDArray[np.int64], first: int, stop: int, triangle: bool) -> int:
    """Count the pairs of these rows with columns `first` to `stop`.

    In a triangle, count those above the diagonal.
    """
    if not triangle:
        return len(rows) * (stop - first)
    return int(np.maximum(stop - np.maximum(first, rows + 1), 0).sum())


def check_search(vectors: Rows, others: Rows | None, threshold: float, max_pairs: int) -> None:
    """Check the arguments of a search.

    Raises:
        InputError: Arrays that are not (n, d) and (m, d), a threshold outside (0, 1], or `max_pairs` below 1.
    """
    for name, rows in (("vectors", vectors), ("others", others)):
        if rows is not None and len(rows.shape) != 2:
            raise InputError(f"{name} must have the shape (n, d), got {rows.shape}", hint="give one row a question")
    if others is not None and others.shape[1] != vectors.shape[1]:
        raise InputError(
            f"others must have {vectors.shape[1]} dimensions, as vectors have, got {others.shape[1]}",
            hint="embed both with one model",
        )
    as_number(threshold, "threshold", 0, 1, above=True, hint="try 0.8")
    as_int(max_pairs, "max_pairs", 1)


def _key(vectors: Rows, others: Rows | None, options: str) -> str:
    """Return a hash of everything that the result of a search depends on."""
    digest = hashlib.blake2b(f"{options} {PANEL}".encode(), digest_size=16)
    for rows in (vectors, others):
        digest.update(b"|" if rows is None else str(rows.shape).encode())
        for part in chunks(0 if rows is None else len(rows), PANEL):
            digest.update(np.ascontiguousarray(rows[part] if rows is not None else [], np.float32).tobytes())
    return digest.hexdigest()
