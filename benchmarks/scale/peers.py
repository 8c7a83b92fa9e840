"""Other ways to find near pairs, on the same vectors or texts; each is left out where its package is missing."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.index.places import LeftOutError
from benchmarks.scale.cells import MAX_PAIRS, THRESHOLD, figure, sampled, stored
from dupq.models.batching import chunks
from dupq.search.cells import cell_pairs
from dupq.search.certificate import found_of, measured_recall
from dupq.search.kmeans import default_cells

Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]
PROBES = 8
NEAREST = 100
PART, EXPANSION = 4096, 128
HASHES, JACCARD = 128, 0.5


def by_cells(path: str, texts: Sequence[str]) -> Pairs:
    """Search with dupq's cells, with the samples and the certificate."""
    found = cell_pairs(stored(path), threshold=THRESHOLD, max_pairs=MAX_PAIRS)
    return found.left, found.right


def usearch(path: str, texts: Sequence[str]) -> Pairs:
    """Search usearch's HNSW graph, the nearest of each question."""
    from usearch.index import Index

    rows = stored(path)
    graph = Index(ndim=rows.shape[1], metric="ip", dtype="bf16", expansion_add=EXPANSION, expansion_search=EXPANSION)
    for part in chunks(len(rows), PART):
        graph.add(np.arange(part.start, part.stop), rows[part])
    lefts, rights = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for part in chunks(len(rows), PART):
        found = graph.search(rows[part], min(NEAREST, len(rows)))
        # One row alone gives arrays without its axis; a row with fewer neighbours is padded.
        keys, distances = (np.reshape(side, (part.stop - part.start, -1)) for side in (found.keys, found.distances))
        read = np.arange(keys.shape[1]) < np.reshape(getattr(found, "counts", keys.shape[1]), (-1, 1))
        place, rank = np.nonzero(read & (1 - distances >= THRESHOLD))
        lefts.append(part.start + place)
        rights.append(keys[place, rank].astype(np.int64))
    return once(np.concatenate(lefts), np.concatenate(rights))


def faiss_ivf(path: str, texts: Sequence[str]) -> Pairs:
    """Search faiss's inverted lists by range."""
    import faiss

    rows = np.ascontiguousarray(stored(path)[:])
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(rows.shape[1]), rows.shape[1], default_cells(len(rows)), 0)
    index.train(rows)
    index.add(rows)
    index.nprobe = PROBES
    limits, _, found = index.range_search(rows, THRESHOLD)
    return once(np.repeat(np.arange(len(rows)), np.diff(limits).astype(np.int64)), found.astype(np.int64))


def paraphrase_mining(path: str, texts: Sequence[str]) -> Pairs:
    """Search with sentence-transformers' utility, the nearest of each question."""
    import torch
    from sentence_transformers.util import paraphrase_mining_embeddings

    rows = torch.from_numpy(np.ascontiguousarray(stored(path)[:]))
    found = paraphrase_mining_embeddings(rows, max_pairs=MAX_PAIRS, top_k=NEAREST)
    kept = [(i, j) for score, i, j in found if score >= THRESHOLD]
    return once(*np.array(kept, np.int64).reshape(-1, 2).T)


def datasketch(path: str, texts: Sequence[str]) -> Pairs:
    """Search the texts by MinHash of their words, with locality-sensitive hashing."""
    from datasketch import MinHash, MinHashLSH

    index, found = MinHashLSH(threshold=JACCARD, num_perm=HASHES), []
    for row, text in enumerate(texts):
        hashed = MinHash(num_perm=HASHES)
        hashed.update_batch([word.encode() for word in {*text.lower().split()}])
        found += [(int(other), row) for other in index.query(hashed)]
        index.insert(str(row), hashed)
    return once(*np.array(found, np.int64).reshape(-1, 2).T)


def once(left: NDArray[np.int64], right: NDArray[np.int64]) -> Pairs:
    """Return each pair once, the lower row first, and no row with itself."""
    pairs = np.unique(np.stack([np.minimum(left, right), np.maximum(left, right)])[:, left != right], axis=1)
    return pairs[0], pairs[1]


PEERS: dict[str, tuple[str, str, Callable[[str, Sequence[str]], Pairs]]] = {
    "cells": ("dupq", "dupq", by_cells),
    "usearch": ("usearch", "usearch", usearch),
    "faiss": ("faiss", "faiss-cpu", faiss_ivf),
    "paraphrase_mining": ("sentence_transformers", "sentence-transformers", paraphrase_mining),
    "datasketch": ("datasketch", "datasketch", datasketch),
}
"""Name -> module, package and function."""


def check(name: str) -> None:
    """Raise LeftOutError if the package of a peer is missing."""
    module, package, _ = PEERS[name]
    if find_spec(module) is None:
        raise LeftOutError(f"{package} is not installed")


def measured(name: str, path: str, texts: Sequence[str], sample: int) -> dict[str, Any]:
    """Measure a peer: seconds, pairs, and recall of the pairs of sampled questions."""
    start = time.perf_counter()
    left, right = PEERS[name][2](path, texts)
    seconds = time.perf_counter() - start
    true = sampled(path, sample)
    hit = found_of(true, left, right, len(stored(path)), one=True)
    return {
        "seconds": seconds,
        "pairs": len(left),
        "recall": figure(measured_recall(true, hit)),
        "version": version(PEERS[name][1]),
    }
