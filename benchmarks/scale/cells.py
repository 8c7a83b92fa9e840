"""Exact search and search by cells: recall, work and seconds, on vectors in a file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dupq.search.cells import (
    CellMerge,
    cell_products,
    draw_samples,
    group_cells,
    needed_overlap,
    search_cells,
)
from dupq.search.certificate import Recall, TruePairs, measured_recall, recall_by_band, true_pairs
from dupq.search.exact import similar_pairs
from dupq.search.kmeans import assigned, cell_counts, fit_cells
from dupq.search.tiles import WantedPairs
from dupq.search.vectors import StoredRows

THRESHOLD = 0.8
MAX_PAIRS = 20_000_000
"""As many as a machine with 8 GB holds; a search with more keeps the strongest."""


def stored(path: str) -> StoredRows:
    """Open the vectors of a corpus, whose shape is in the name: `vectors-N-D.f32`."""
    n, d = Path(path).stem.split("-")[1:]
    return StoredRows(Path(path), (int(n), int(d)))


def wanted() -> WantedPairs:
    return WantedPairs(THRESHOLD, 0, 1.0, MAX_PAIRS, one=True)


def exact(path: str, pairs: str) -> dict[str, Any]:
    """Measure the exact search, and keep its pairs in a file."""
    vectors, start = stored(path), time.perf_counter()
    found = similar_pairs(vectors, threshold=THRESHOLD, max_pairs=MAX_PAIRS)
    seconds = time.perf_counter() - start
    np.save(pairs, np.stack([found.left, found.right]))
    guarantee = found.search_guarantee
    return {
        "seconds": seconds,
        "comparisons": guarantee.compared,
        "rows": len(vectors),
        "pairs": len(found),
        "complete_above": guarantee.complete_above,
        "method": guarantee.method,
    }


def sampled(path: str, sample: int) -> TruePairs:
    """Return the pairs of sampled questions, the sample that a search by cells certifies its recall on."""
    vectors = stored(path)
    return true_pairs(vectors, None, draw_samples(len(vectors), sample, 0)[1], wanted(), None)


def grid(path: str, cells: int, overlaps: list[int], timed: list[int], sample: int) -> dict[str, Any]:
    """Measure recall and work of a number of cells at each overlap, and the seconds of some.

    Args:
        path: The vectors.
        cells: Number K of cells.
        overlaps: Numbers m of cells of a row.
        timed: Those that are searched.
        sample: Sampled questions.
    """
    vectors, search, row = stored(path), wanted(), {}
    start = time.perf_counter()
    true = sampled(path, sample)
    row["sample_s"] = time.perf_counter() - start
    start = time.perf_counter()
    centroids = fit_cells(vectors, cells)
    row["fit_s"] = time.perf_counter() - start
    start = time.perf_counter()
    of_rows = assigned(vectors, centroids, max(overlaps))
    row["assign_s"] = time.perf_counter() - start
    needed, n = needed_overlap(true, vectors, None, centroids, max(overlaps)), len(vectors)
    row |= {"rows": n, "cells": len(centroids), "sample": sample, "sampled": true.sampled, "overlaps": {}}
    for m in overlaps:
        counts = cell_counts(of_rows[:, :m], len(centroids))
        work = int(cell_products(counts, None, search).sum())
        bands = recall_by_band(true, needed <= m, THRESHOLD)
        held = {
            "comparisons": work,
            "share": work / (n * (n - 1) / 2),
            "largest_cell": int(counts.sum(axis=0).max()),
            "recall": figure(measured_recall(true, needed <= m)),
            "bands": {f"{low:g}-{high:g}": figure(band) for (low, high), band in bands.items()},
        }
        if m in timed:
            start = time.perf_counter()
            merge = CellMerge(search, 0, n)
            narrow: NDArray[np.int32] = np.ascontiguousarray(of_rows[:, :m])
            for group in group_cells(counts, None, search):
                merge.add(search_cells(vectors, None, narrow, None, group, search))
            pairs = merge.pairs()
            held |= {"search_s": time.perf_counter() - start, "pairs": len(pairs.left)}
        row["overlaps"][str(m)] = held
    return row


def figure(recall: Recall) -> dict[str, Any]:
    return {
        "value": recall.value,
        "low": recall.low,
        "high": recall.high,
        "pairs": recall.pairs,
        "questions": recall.questions,
    }
