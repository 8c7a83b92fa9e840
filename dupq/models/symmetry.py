"""Symmetric scores from an order-sensitive cross-encoder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dupq.models.batching import UniquePairs, check_lengths, part_of
from dupq.models.idf_overlap import words
from dupq.models.long_text import LongPairs, head_and_tail
from dupq.types import Progress

Symmetry = Literal["canonical", "adaptive", "both"]
"""Rule that makes a cross-encoder symmetric.

- canonical: score one order, in which the text that sorts first by code point is the first input; one forward pass.
- adaptive: canonical, but score both orders of uncertain pairs and take their mean, and of pairs with nearly the same
  words and take the minimum; between one and two forward passes.
- both: the mean of both orders; two forward passes.
"""

CERTAIN, UNCERTAIN = 1.5, 1.0
"""Absolute logits: one order is enough from `CERTAIN`, the mean of both is taken below `UNCERTAIN`, and in between the
two are mixed linearly, so that the score is continuous."""
MIN_WORD_OVERLAP = 0.8
"""Jaccard index of the word counts from which only word order can distinguish two questions (as in PAWS, Zhang et al.
2019). There the lower score counts: the order that missed the difference scores higher."""

ScorePairs = Callable[[list[tuple[str, str]], Progress | None], NDArray[np.float64]]
"""Scores n ordered pairs: returns logits, float64 (n,)."""


def symmetric_scores(
    score: ScorePairs,
    left: Sequence[str],
    right: Sequence[str],
    symmetry: Symmetry,
    progress: Progress | None = None,
    long_pairs: LongPairs = "whole",
) -> NDArray[np.float64]:
    """Score n pairs independently of the order of their texts, to the last bit.

    Args:
        score: Scores ordered pairs; it is called with distinct ones.
        left, right: n texts each.
        symmetry: See `Symmetry`.
        progress: Called with (done, total).
        long_pairs: See `dupq.models.long_text.LongPairs`; `score` receives what is to be read.

    Returns:
        Logits, float64 (n,).

    Raises:
        InputError: The lengths differ, or one argument is a str.
    """
    if long_pairs == "head_and_tail":
        check_lengths(left, right)
        left, right = ([head_and_tail(text) for text in texts] for texts in (left, right))
    unique = UniquePairs.of(left, right)
    pairs = list(zip(unique.left, unique.right, strict=True))
    n = len(pairs)
    scores = np.array(score(pairs, progress if symmetry == "canonical" else part_of(progress, 0, n, 2 * n)))
    if symmetry == "canonical" or n == 0:
        return scores[unique.inverse]
    weight, same_words = np.ones(n), np.zeros(n, dtype=bool)
    if symmetry == "adaptive":
        weight = np.clip((CERTAIN - np.abs(scores)) / (CERTAIN - UNCERTAIN), 0, 1)
        same_words = np.array([_have_same_words(*pair) for pair in pairs])
    rows = np.flatnonzero((weight > 0) | same_words)
    step_progress = part_of(progress, 2 * n - len(rows), len(rows), 2 * n)
    second = score([(pairs[row][1], pairs[row][0]) for row in rows], step_progress)
    first = scores[rows]
    scores[rows] = np.where(same_words[rows], np.minimum(first, second), first + weight[rows] * (second - first) / 2)
    if progress:
        progress(2 * n, 2 * n)
    return scores[unique.inverse]


def _have_same_words(left: str, right: str) -> bool:
    """Return True where two texts have nearly the same words in another order."""
    one, other = words(left), words(right)
    # The shorter text bounds the overlap, which settles most pairs.
    if min(len(one), len(other)) < MIN_WORD_OVERLAP * max(len(one), len(other)) or one == other:
        return False
    counts, others = Counter(one), Counter(other)
    return (counts & others).total() >= MIN_WORD_OVERLAP * (counts | others).total()
