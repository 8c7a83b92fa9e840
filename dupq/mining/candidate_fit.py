"""Fit the candidate rule with the fewest candidates that reach a recall.

Recall is the share of the labelled duplicates among the candidates.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil, floor

import numpy as np
from numpy.typing import NDArray

from dupq.data.arguments import as_int, as_number, as_texts
from dupq.data.grouping import refuse_overlap
from dupq.data.pairs import PairTable, as_table
from dupq.data.text import check_text, duplicate_key_hashes
from dupq.decisions.candidate_rule import MAX_NEIGHBOURS, NEAR_COSINE, CandidateRule
from dupq.decisions.decider import embedder_of
from dupq.errors import InputError
from dupq.pipeline import DuplicatePipeline
from dupq.search.exact import similar_pairs
from dupq.search.pairs import MAX_PAIRS
from dupq.search.vectors import StoredRows
from dupq.types import Progress

Ints = NDArray[np.int64]

LEAST_COSINE = 0.05
"""No rule goes below it."""
MOST_NEIGHBOURS = 50
"""Neighbours of a question that are tried."""


def fit_candidate_rule(
    pipeline: DuplicatePipeline,
    pairs: PairTable,
    questions: Iterable[str] = (),
    *,
    recall: float = 0.9,
    max_neighbours: int = MOST_NEIGHBOURS,
    progress: Progress | None = None,
) -> CandidateRule:
    """Fit the candidate rule of a pipeline on labelled duplicates of a forum.

    Recall falls as a collection grows, because a duplicate then has more texts that are nearer. Give as many questions
    as will be mined.

    Args:
        pipeline: A pipeline with a bi-encoder.
        pairs: Labelled pairs that no network was trained on. Duplicates count; of the others, the texts.
        questions: Further texts to search in.
        recall: The least share of the duplicates that the rule has to find, in (0, 1].
        max_neighbours: Largest number of neighbours to try, from 1 to 1,000.
        progress: Called with (texts embedded, texts).

    Returns:
        The rule, which `DuplicatePipeline.with_candidate_rule` takes.

    Raises:
        InputError: There is no duplicate with two distinct texts, no rule reaches `recall`, or a value is out of its
            range.
        LeakError: A question of the pairs was trained on.
    """
    pairs, embedder = as_table(pairs), embedder_of(pipeline)
    recall = as_number(recall, "recall", 0, 1, above=True, hint="try 0.9")
    refuse_overlap(pipeline.trained_on, pairs.left, pairs.right, "fit the candidate rule")
    further = [
        check_text(text, f"question {number}") for number, text in enumerate(as_texts(questions, "questions"), 1)
    ]
    texts = [*pairs.left, *pairs.right, *further]
    _, first, number = np.unique(duplicate_key_hashes(texts), return_index=True, return_inverse=True)
    left, right = number[: len(pairs)], number[len(pairs) : 2 * len(pairs)]
    kept = (pairs.labels == 1) & (left != right)
    vectors = embedder.embed([texts[at] for at in first.tolist()], progress)
    return cheapest_rule(vectors, left[kept], right[kept], recall=recall, max_neighbours=max_neighbours)


def cheapest_rule(
    vectors: NDArray[np.float32] | StoredRows,
    left: Ints,
    right: Ints,
    *,
    recall: float,
    max_neighbours: int = MOST_NEIGHBOURS,
    near_cosine: float = NEAR_COSINE,
) -> CandidateRule:
    """Return the rule with the fewest candidates that reaches a recall.

    For each number of neighbours, the highest minimum cosine that reaches the share is tried, rounded down to three
    digits. Between rules with equally many candidates, the one with fewer neighbours wins.

    Args:
        vectors: float32 (n, d), rows of unit length, of the distinct texts.
        left, right: Rows of the duplicates, int64 (m,); each pair counts once.
        recall: The least share of them, in (0, 1].
        max_neighbours: Largest number of neighbours to try.
        near_cosine: As in `CandidateRule`.

    Raises:
        InputError: There is no duplicate pair, or no rule reaches `recall`.
    """
    n, most = len(vectors), as_int(max_neighbours, "max_neighbours", 1, MAX_NEIGHBOURS)
    wanted = np.unique(np.minimum(left, right) * n + np.maximum(left, right))
    if not len(wanted):
        raise InputError("pairs must hold a duplicate with two distinct texts, got none", hint="label some pairs 1")
    found = similar_pairs(
        vectors, threshold=LEAST_COSINE, neighbours=most, every_from=near_cosine, max_pairs=n * most + MAX_PAIRS
    )
    rank, cosine = _ranks(found.left, found.right, found.cosine), found.cosine
    at = np.flatnonzero(np.isin(found.left * n + found.right, wanted))

    def measured(k: int, least: float) -> CandidateRule:
        selected = near | ((rank <= k) & (cosine >= least))
        return CandidateRule(
            k,
            least,
            near_cosine,
            recall=float(selected[at].sum() / len(wanted)),
            duplicates=len(wanted),
            questions=n,
            candidates=float(selected.sum() / n),
        )

    near = cosine >= near_cosine
    missing = ceil(recall * len(wanted) - 1e-9) - int(near[at].sum())
    if missing <= 0:
        return measured(0, near_cosine)
    tried: list[tuple[int, int, float]] = []
    for k in range(1, most + 1):
        below = np.sort(cosine[at[~near[at] & (rank[at] <= k)]])[::-1]
        if missing <= len(below):
            least = max(floor(1000 * below[missing - 1]) / 1000, LEAST_COSINE)
            tried.append((int((~near & (rank <= k) & (cosine >= least)).sum()), k, least))
    if not tried:
        reached = float((near[at] | (rank[at] <= most)).sum() / len(wanted))
        raise InputError(
            f"recall must be at most {floor(1000 * reached) / 1000:g}, the share of the duplicates among the {most} "
            f"nearest of a question, got {recall:g}",
            hint="lower it, or train the bi-encoder on such pairs",
        )
    return measured(*min(tried)[1:])


def _ranks(left: Ints, right: Ints, cosine: NDArray[np.float64]) -> Ints:
    """Return the better of the two ranks of each pair, int64 (m,).

    A rank counts from 1, among the neighbours of one row of the pair.
    """
    owner, other = np.concatenate([left, right]), np.concatenate([right, left])
    order = np.lexsort((other, -np.concatenate([cosine, cosine]), owner))
    starts = np.searchsorted(owner[order], owner[order])
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order)) - starts + 1
    return np.minimum(rank[: len(left)], rank[len(left) :])
