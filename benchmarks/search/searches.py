"""Exact search, `paraphrase_mining_embeddings` and the truth, each in a process of its own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dupq.models.batching import chunks

THRESHOLD = 0.8
TOP_K, MAX_PAIRS = 100, 500_000
"""The defaults of `paraphrase_mining_embeddings`."""
PART = 2048
ROUNDING = 1e-4
"""More than the error of a product of unit vectors in float32."""
Search = tuple[Callable[[], Any], Callable[[Any], Any]]
"""A search, and a function that returns the left and right rows of its result."""


def truth(path: str) -> dict[str, Any]:
    """Find all pairs at or above the threshold by NumPy, and keep them in a file beside the vectors."""
    vectors, start, found = np.load(path), time.perf_counter(), [np.zeros((2, 0), np.int64)]
    for part in chunks(len(vectors), PART):
        i, j = np.nonzero(vectors[part] @ vectors[part.start :].T >= THRESHOLD - ROUNDING)
        i, j = (i + part.start)[j > i], (j + part.start)[j > i]
        cosine = np.einsum("ij,ij->i", vectors[i].astype(np.float64), vectors[j].astype(np.float64))
        found.append(np.stack([i, j])[:, cosine >= THRESHOLD])
    pairs = np.concatenate(found, axis=1)
    np.save(truth_file(path), pairs)
    most = int(np.bincount(pairs.ravel(), minlength=1).max())
    return {"pairs": pairs.shape[1], "most_neighbours": most, "seconds": time.perf_counter() - start}


def truth_file(path: str) -> Path:
    """Return the file of the true pairs of a file of vectors."""
    return Path(path).with_suffix(".pairs.npy")


def by_dupq(vectors: NDArray[np.float32], pairs: int, top_k: int) -> Search:
    """Prepare dupq's exact search with its defaults."""
    import onnxruntime  # noqa: F401

    from dupq.search.exact import similar_pairs

    return lambda: similar_pairs(vectors, threshold=THRESHOLD), lambda found: (found.left, found.right)


def by_paraphrase_mining(vectors: NDArray[np.float32], pairs: int, top_k: int) -> Search:
    """Prepare sentence-transformers' utility, which keeps at least as many pairs as there are."""
    import torch
    from sentence_transformers.util import paraphrase_mining_embeddings

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    rows, most = torch.from_numpy(vectors), max(MAX_PAIRS, pairs)
    return (
        lambda: paraphrase_mining_embeddings(rows, top_k=top_k, max_pairs=most),
        lambda found: tuple(np.array([pair[1:] for pair in found], np.int64).reshape(-1, 2).T),
    )


def measured(name: str, path: str, top_k: int) -> dict[str, Any]:
    """Measure one search: wall and processor seconds, and the true pairs that it missed."""
    vectors, true = np.load(path), np.load(truth_file(path))
    search, columns = (by_dupq if name == "dupq" else by_paraphrase_mining)(vectors, true.shape[1], top_k)
    wall, processor = time.perf_counter(), time.process_time()
    found = search()
    row = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - processor}
    left, right = columns(found)
    n = len(vectors)
    held = np.isin(true[0] * n + true[1], np.minimum(left, right) * n + np.maximum(left, right))
    return {**row, "pairs": len(left), "missed": int((~held).sum())}
