"""Similar pairs by an approximate index, for collections too large to compare every pair, with its recall measured.

The index is usearch's HNSW graph (Malkov & Yashunin 2018). Beside faiss it is a tenth of the size to install, stores
bfloat16 as it is, and brings threads of its own rather than a second OpenMP runtime beside torch's; at equal recall the
two are about as fast.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dupq.errors import InputError
from dupq.forum.candidates import MAX_PAIRS, Certificate, Rows, SimilarPairs, StrongestPairs
from dupq.forum.exact import check_search, dot, similar_pairs
from dupq.forum.work import StoredRows
from dupq.models.scorers import Progress, chunks

NEIGHBOURS = 32
MOST_NEIGHBOURS = 2048
"""Of each question so many are looked at; and four times as many again, up to the most, while all of them are near."""
EXPANSION = 128
"""How widely the graph is searched, when it is built and when it is asked."""
SAMPLE = 1000
PART = 4096


def approximate_pairs(
    vectors: Rows,
    others: Rows | None = None,
    *,
    threshold: float,
    max_pairs: int = MAX_PAIRS,
    neighbours: int = NEIGHBOURS,
    sample: int = SAMPLE,
    seed: int = 0,
    progress: Progress | None = None,
) -> SimilarPairs:
    """Most pairs whose cosine is at or above a threshold; how many of them is measured, and told in the certificate.

    Needs the extra `dupq[large]`. Memory: about 2·d + 150 bytes a row of the side that is searched in.

    Args:
        vectors, others, threshold, max_pairs: As of `exact.similar_pairs`.
        neighbours: Of each row so many others are looked at first, and more where all of these are near.
        sample: For so many rows, drawn at random, all pairs are computed exactly, to measure the recall.
        seed: Of the draw.
        progress: Called with (rows done, rows in all); each row counts when it is added and when it is searched.

    Raises:
        InputError: As of `exact.similar_pairs`; or usearch is not installed.
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
    pairs, looked = StrongestPairs(threshold, max_pairs), 0
    for part in chunks(n, PART):
        rows = np.ascontiguousarray(vectors[part], np.float32)
        at = np.arange(part.start, part.stop)
        count = min(m, neighbours + (others is None))  # a row finds itself
        while count and len(at):
            left, right, more = _found(graph, rows, at, count, pairs.floor)
            looked += len(rows) * count
            if others is None:
                kept = left != right
                left, right = np.minimum(left, right)[kept], np.maximum(left, right)[kept]
            for piece in chunks(len(left), 65_536):
                i, j = left[piece], right[piece]
                pairs.add(i, j, dot(_rows_at(vectors, i), _rows_at(inside, j)))
            # Where even the last neighbour is near, there may be others beyond it.
            wider = min(m, 4 * count, MOST_NEIGHBOURS)
            rows, at, count = rows[more], at[more], wider if wider > count else 0
        done += part.stop - part.start
        if progress is not None:
            progress(done, n + m)
    found = SimilarPairs(
        *pairs.columns(),
        Certificate(
            exact=False,
            method=f"usearch HNSW, bfloat16, {neighbours} neighbours or more",
            left=n,
            right=None if others is None else m,
            compared=looked,
            threshold=threshold,
            complete_above=pairs.complete_above,
            rescored=pairs.rescored,
        ),
    )
    return _measured(found, vectors, others, sample, seed)


def need_usearch(n: int) -> None:
    """Raises InputError where the library that n questions would be searched with is not installed."""
    if find_spec("usearch") is None:
        raise InputError(
            f"the approximate search of {n:,} questions needs usearch, which is not installed",
            mend='pip install "dupq[large]", or raise approximate_above: the exact search needs nothing else',
        )


def _found(
    graph: Any, rows: NDArray[np.float32], at: NDArray[np.int64], count: int, floor: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Pairs that the graph finds near `floor` or above it, and the rows whose last neighbour is still so near.

    Args:
        rows: Vectors, (r, d).
        at: Their row numbers, (r,).
        count: Neighbours of each.
    """
    matches = graph.search(rows, count)
    keys = np.asarray(matches.keys).reshape(len(rows), -1).astype(np.int64)
    distances = np.asarray(matches.distances).reshape(len(rows), -1)
    counts = np.atleast_1d(np.asarray(getattr(matches, "counts", keys.shape[1])))
    # The graph stores bfloat16; 0.01 is more than what that can be off.
    near = (1 - distances >= floor - 0.01) & (np.arange(keys.shape[1]) < counts.reshape(-1, 1))
    row, column = np.nonzero(near)
    return at[row], keys[row, column], np.flatnonzero(near.all(axis=1))


def _rows_at(rows: Rows, at: NDArray[np.int64]) -> NDArray[np.float32]:
    """Rows by number, of an array or of stored rows."""
    return np.asarray(rows.take(at)) if isinstance(rows, StoredRows) else np.asarray(np.asarray(rows)[at])


def _measured(pairs: SimilarPairs, vectors: Rows, others: Rows | None, sample: int, seed: int) -> SimilarPairs:
    """The same pairs, with the recall in their certificate: a bootstrap over the sampled rows gives its interval."""
    from dataclasses import replace

    draw = np.random.default_rng(seed)
    picked = np.sort(draw.permutation(len(vectors))[:sample])
    floor = pairs.certificate.complete_above
    true = similar_pairs(_rows_at(vectors, picked), vectors if others is None else others, threshold=floor)
    i, j = picked[true.left], true.right
    kept = i != j if others is None else np.ones(len(i), bool)
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
    certificate = replace(pairs.certificate, recall=recall, recall_low=low, recall_high=high, sampled=int(wanted.sum()))
    return replace(pairs, certificate=certificate)
