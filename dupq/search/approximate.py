"""Approximate search for similar pairs in collections too large to compare every pair, with a measured recall.

The index is usearch's HNSW graph (Malkov & Yashunin 2018). At equal recall faiss is about as fast, but ten times as
large to install, does not store bfloat16, and loads a second OpenMP runtime beside torch's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dupq.errors import require_extra
from dupq.models.batching import chunks
from dupq.search.exact import check_search, dot, similar_pairs
from dupq.search.pairs import MAX_PAIRS, NearestRows, Rows, SearchGuarantee, SimilarPairs, StrongestPairs
from dupq.types import Progress

READ = 32
MAX_READ = 2048
"""Initial number of neighbours read for a row, or those that are wanted; multiplied by 4, up to MAX_READ, while all of
them reach the cosine from which every pair is wanted."""
EXPANSION = 128
"""Candidates that HNSW keeps while it inserts or searches a row: more take longer and raise the recall."""
SAMPLE = 1000
PART = 4096


def approximate_pairs(
    vectors: Rows,
    others: Rows | None = None,
    *,
    threshold: float,
    neighbours: int = 0,
    every_from: float = 1.0,
    own: NDArray[np.int64] | None = None,
    max_pairs: int = MAX_PAIRS,
    read: int = READ,
    sample: int = SAMPLE,
    seed: int = 0,
    progress: Progress | None = None,
) -> SimilarPairs:
    """Find most pairs whose cosine is at or above a threshold, and measure the recall.

    Needs the extra `dupq[large]`. Memory: about 2·d + 150 bytes for each row of the side that is searched in.

    Args:
        vectors, others, threshold, neighbours, every_from, own, max_pairs: As for `exact.similar_pairs`.
        read: Initial number of neighbours read for a row; more are read where all of them reach the cosine from which
            every pair is wanted.
        sample: Number of rows, drawn at random, whose pairs are all computed exactly to measure the recall.
        seed: Seed of that draw.
        progress: Called with (rows done, rows in all); each row counts when it is inserted and when it is searched.

    Returns:
        The pairs; `search_guarantee.recall` is the share that was found, with its interval.

    Raises:
        InputError: As `exact.similar_pairs`.
        MissingExtraError: usearch is not installed.
    """
    check_search(vectors, others, threshold, max_pairs)
    need_usearch(len(vectors))
    from usearch.index import Index

    inside = vectors if others is None else others
    n, m = len(vectors), len(inside)
    graph = Index(ndim=vectors.shape[1], metric="ip", dtype="bf16", expansion_add=EXPANSION, expansion_search=EXPANSION)
    done = 0
    for part in chunks(m, PART):
        graph.add(np.arange(part.start, part.stop), np.ascontiguousarray(inside[part], np.float32))
        done += part.stop - part.start
        if progress is not None:
            progress(done, n + m)
    pairs, compared = StrongestPairs(threshold, max_pairs, repeats=True), 0
    every = max(threshold, every_from) if neighbours else threshold
    if own is None:
        own = np.arange(n) if others is None else np.full(n, -1)
    for part in chunks(n, PART):
        rows = np.ascontiguousarray(vectors[part], np.float32)
        at = np.arange(part.start, part.stop)
        count = min(m, max(read, neighbours) + 1)  # a row may find itself
        nearest = NearestRows(len(at), min(neighbours, m), threshold) if neighbours and m else None
        while count and len(at):
            left, right, more = _found(graph, rows, at, count, pairs.floor, max(every, pairs.floor))
            compared += len(rows) * count
            kept = own[left] != right
            left, right = left[kept], right[kept]
            for piece in chunks(len(left), 65_536):
                i, j = left[piece], right[piece]
                cosine = dot(vectors[i], inside[j])
                if nearest is not None:
                    nearest.add(i - part.start, j, cosine)
                wanted = cosine >= every
                _add(pairs, i[wanted], j[wanted], cosine[wanted], others is None)
            if nearest is not None:
                i, j, cosine = nearest.columns()
                _add(pairs, part.start + i, j, cosine, others is None)
                nearest = None  # the wider readings find the same neighbours
            # Where even the last neighbour passes, there may be others beyond it.
            wider = min(m, 4 * count, MAX_READ)
            rows, at, count = rows[more], at[more], wider if wider > count else 0
        done += part.stop - part.start
        if progress is not None:
            progress(done, n + m)
    found = SimilarPairs(
        *pairs.columns(),
        SearchGuarantee(
            exact=False,
            method=f"usearch HNSW, bfloat16, {read} neighbours or more",
            left=n,
            right=None if others is None else m,
            compared=compared,
            threshold=threshold,
            complete_above=pairs.complete_above,
            rescored=pairs.rescored,
            dropped=pairs.dropped,
            neighbours=neighbours,
            every_from=every if neighbours else None,
        ),
    )
    return _with_recall(found, vectors, others, own, sample, seed)


def _add(
    pairs: StrongestPairs, i: NDArray[np.int64], j: NDArray[np.int64], cosine: NDArray[np.float64], one: bool
) -> None:
    """Add pairs; within one collection the lower row comes first."""
    if one:
        i, j = np.minimum(i, j), np.maximum(i, j)
    pairs.add(i, j, cosine)


def need_usearch(n: int) -> None:
    """Check that usearch, which searches n questions, is installed; raise MissingExtraError otherwise."""
    require_extra("large", f"the approximate search of {n:,} questions")


def _found(
    graph: Any, rows: NDArray[np.float32], at: NDArray[np.int64], count: int, floor: float, every: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return pairs that the graph finds near `floor` or above it, and the rows whose every neighbour reaches `every`.

    Args:
        graph: The usearch index.
        rows: Vectors, (r, d).
        at: Their row numbers, (r,).
        count: Number of neighbours to read for each row.
        floor: The lowest cosine.
        every: The cosine from which every pair is wanted.
    """
    matches = graph.search(rows, count)
    keys = np.asarray(matches.keys).reshape(len(rows), -1).astype(np.int64)
    distances = np.asarray(matches.distances).reshape(len(rows), -1)
    counts = np.atleast_1d(np.asarray(getattr(matches, "counts", keys.shape[1])))
    # The graph stores bfloat16, whose error is below 0.01.
    read = np.arange(keys.shape[1]) < counts.reshape(-1, 1)
    row, column = np.nonzero(read & (1 - distances >= floor - 0.01))
    return at[row], keys[row, column], np.flatnonzero((read & (1 - distances >= every - 0.01)).all(axis=1))


def _with_recall(
    pairs: SimilarPairs, vectors: Rows, others: Rows | None, own: NDArray[np.int64], sample: int, seed: int
) -> SimilarPairs:
    """Add the recall to the guarantee, with a 95 % interval by a bootstrap over the sampled rows (Efron 1979)."""
    draw = np.random.default_rng(seed)
    picked = np.sort(draw.permutation(len(vectors))[:sample])
    found = pairs.search_guarantee
    floor = found.complete_above
    # Rounding can give equal texts a cosine just above 1, and then the floor may lie there.
    true = similar_pairs(
        vectors[picked],
        vectors if others is None else others,
        threshold=min(floor, 1.0),
        neighbours=found.neighbours,
        every_from=found.every_from or 1.0,
        own=own[picked],
    )
    i, j = picked[true.left], true.right
    kept = (true.cosine >= floor) & (own[i] != j)
    owner, i, j = true.left[kept], i[kept], j[kept]
    width = np.int64(len(vectors if others is None else others))
    if others is None:
        i, j = np.minimum(i, j), np.maximum(i, j)
    hit = np.isin(i * width + j, pairs.left * width + pairs.right)
    wanted = np.bincount(owner, minlength=len(picked)).astype(np.float64)
    got = np.bincount(owner, hit, minlength=len(picked))
    recall, low, high = 1.0, 0.0, 1.0
    if wanted.sum():
        again = draw.integers(len(picked), size=(1000, len(picked)))
        totals = wanted[again].sum(axis=1)
        shares = got[again].sum(axis=1)[totals > 0] / totals[totals > 0]
        recall = float(got.sum() / wanted.sum())
        low, high = (float(value) for value in np.quantile(shares, [0.025, 0.975]))
    search_guarantee = replace(
        pairs.search_guarantee, recall=recall, recall_low=low, recall_high=high, sampled=int(wanted.sum())
    )
    return replace(pairs, search_guarantee=search_guarantee)
