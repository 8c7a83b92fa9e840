"""A whole mining run of a size whose networks would take hours: the search is measured, the rest on a sample.

Embedding: seconds a text of a sample. Search: over all vectors of the corpus, by cells with the certificate of their
recall, or exact. Judging: the pairs that a budget selects, or as many as `part` allows. What is not measured is
extrapolated by the seconds of one text or pair.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.index.corpus import made
from benchmarks.index.places import LeftOutError
from benchmarks.scale.cells import MAX_PAIRS, THRESHOLD, stored
from dupq.decisions.decider import embedder_of
from dupq.mining.active_scoring import score_candidates
from dupq.pipeline import DuplicatePipeline
from dupq.search.cells import cell_pairs
from dupq.search.exact import similar_pairs

WARM = 32
"""Texts or pairs before the first measured one."""

Source = tuple[str, int, str | None, int | None]
"""Arguments of `corpus.made`, whose files exist: scratch folder, questions, model, clusters."""


def embedding(source: Source, size: int, sample: int) -> dict[str, Any]:
    """Measure the embedding of a sample of the texts."""
    texts, pipeline = _texts(source)[:size], DuplicatePipeline.from_pretrained(source[2])
    drawn = np.sort(np.random.default_rng(0).permutation(len(texts))[:sample])
    chosen = [texts[at] for at in drawn.tolist()]
    embed = embedder_of(pipeline).embed
    embed(chosen[:WARM])
    start = time.perf_counter()
    embed(chosen)
    seconds = time.perf_counter() - start
    return {"measured": len(chosen), "of": len(texts), "seconds": seconds} | _all(seconds, len(chosen), len(texts))


def search(path: str, pairs: str, sample: int, by_cells: bool) -> dict[str, Any]:
    """Measure the search over all vectors, exact or by cells, and keep its pairs in a file."""
    vectors, start = stored(path), time.perf_counter()
    if by_cells:
        found = cell_pairs(vectors, threshold=THRESHOLD, max_pairs=MAX_PAIRS, sample=sample)
    else:
        found = similar_pairs(vectors, threshold=THRESHOLD, max_pairs=MAX_PAIRS)
    seconds = time.perf_counter() - start
    np.savez(pairs, left=found.left, right=found.right, cosine=found.cosine)
    guarantee = found.search_guarantee
    return {
        "measured": len(vectors),
        "of": len(vectors),
        "seconds": seconds,
        "all_s": seconds,
        "pairs": len(found),
        "comparisons": guarantee.compared,
        "complete_above": guarantee.complete_above,
        "recall": {"value": guarantee.recall, "low": guarantee.recall_low, "high": guarantee.recall_high},
        "method": guarantee.method,
    }


def judging(source: Source, pairs: str, budget: int, part: int) -> dict[str, Any]:
    """Measure the selection and the scores of a budget, or of the smaller budget `part`."""
    if not Path(pairs).exists():
        raise LeftOutError("the pairs of its search are not in the scratch folder")
    texts, pipeline = _texts(source), DuplicatePipeline.from_pretrained(source[2])
    with np.load(pairs) as held:
        left, right, cosine = held["left"], held["right"], held["cosine"]
    limit, scored = min(budget, part, len(cosine)), 0.0
    if not limit:
        return {"measured": 0, "of": 0, "seconds": 0.0, "all_s": 0.0, "select_s": 0.0}

    def score(rows: NDArray[np.int64], name: str, progress: Any) -> NDArray[np.float64]:
        nonlocal scored
        start = time.perf_counter()
        a, b = ([texts[at] for at in side[rows].tolist()] for side in (left, right))
        scores = pipeline.raw_scores(a, b)
        scored += time.perf_counter() - start
        return scores

    pipeline.raw_scores(texts[:WARM], texts[WARM : 2 * WARM])
    start = time.perf_counter()
    _, judged = score_candidates(score, pipeline.candidate_decider, cosine, limit=limit)
    select = time.perf_counter() - start - scored
    measured, wanted = int(judged.sum()), min(budget, len(cosine))
    figures = {"measured": measured, "of": wanted, "seconds": scored, "select_s": select, "candidates": len(cosine)}
    return figures | {"all_s": select + _all(scored, measured, wanted)["all_s"]}


def _texts(source: Source) -> list[str]:
    scratch, size, model, clusters = source
    return made(Path(scratch), size, model, clusters).texts(0, size)


def _all(seconds: float, measured: int, wanted: int) -> dict[str, float]:
    return {"all_s": seconds / measured * wanted}
