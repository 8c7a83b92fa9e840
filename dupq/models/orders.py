"""In which order a cross-encoder reads two questions, so that what it says of a pair knows no order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dupq.models.scorers import Progress, UniquePairs, part_of
from dupq.models.shared_words import words

Symmetry = Literal["canonical", "doubtful", "both"]
"""How a cross-encoder is made symmetric.

canonical: the text that sorts first by code point is the first input; costs nothing.
both: the mean of both orders; costs double.
doubtful: the mean of both where the first leaves doubt, and the lower of the two where a pair has nearly the same
words, else canonical; what it costs follows from how many pairs are such.
"""

CERTAIN, DOUBTFUL = 1.5, 1.0
"""Logits: of one order alone from the first on, of both below the second, and mixed between, so that no score leaps."""
ALIKE = 0.8
"""From this share of words in common, it is their order that tells two questions apart (as in PAWS, Zhang 2019): a
network that sees what differs in one order has seen it, and one that does not has overlooked it."""

Read = Callable[[list[tuple[str, str]], Progress | None], NDArray[np.float64]]
"""n pairs, read in the order in which they stand -> logits, float64 (n,)."""


def symmetric_scores(
    read: Read, left: Sequence[str], right: Sequence[str], symmetry: Symmetry, progress: Progress | None = None
) -> NDArray[np.float64]:
    """Logits of n pairs, float64 (n,): the same to the last bit whichever text of a pair comes first.

    A pair that recurs is read once.
    """
    unique = UniquePairs.of(left, right)
    pairs = list(zip(unique.left, unique.right, strict=True))
    n = len(pairs)
    scores = np.array(read(pairs, progress if symmetry == "canonical" else part_of(progress, 0, n, 2 * n)))
    if symmetry == "canonical" or n == 0:
        return scores[unique.inverse]
    mixed, alike = np.ones(n), np.zeros(n, dtype=bool)
    if symmetry == "doubtful":
        mixed = np.clip((CERTAIN - np.abs(scores)) / (CERTAIN - DOUBTFUL), 0, 1)
        alike = np.array([_alike(*pair) for pair in pairs])
    rows = np.flatnonzero((mixed > 0) | alike)
    told = part_of(progress, 2 * n - len(rows), len(rows), 2 * n)
    second = read([(pairs[row][1], pairs[row][0]) for row in rows], told)
    first = scores[rows]
    scores[rows] = np.where(alike[rows], np.minimum(first, second), first + mixed[rows] * (second - first) / 2)
    if progress:
        progress(2 * n, 2 * n)
    return scores[unique.inverse]


def _alike(left: str, right: str) -> bool:
    """Whether two texts have nearly the same words, but not one by one."""
    one, other = words(left), words(right)
    # The shared words are at most those of the shorter text, and most pairs are settled by that.
    if min(len(one), len(other)) < ALIKE * max(len(one), len(other)) or one == other:
        return False
    counts, others = Counter(one), Counter(other)
    return (counts & others).total() >= ALIKE * (counts | others).total()
