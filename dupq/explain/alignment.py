"""One-to-one alignment of the words of two questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dupq.data import lexicon
from dupq.explain import english
from dupq.explain.tokens import Word

Embed = Callable[[Sequence[str]], NDArray[Any]]
"""n texts -> (n, d), rows of unit length."""

MAX_WORDS = 250
"""Words of a question that are aligned; the assignment takes time cubic in their number."""


class MatchKind(str, Enum):
    """Reason for which two words match."""

    IDENTICAL = "identical"
    FORM = "form"
    NEAR = "near"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Match:
    """Two words that correspond to each other.

    Attributes:
        word1, word2: Their indices among the words of the first and of the second question.
        kind: Identical, another form of the same word, or near in meaning.
        similarity: The cosine of their vectors if near, else 1.
    """

    word1: int
    word2: int
    kind: MatchKind
    similarity: float = 1.0


def align(words1: Sequence[Word], words2: Sequence[Word], embed: Embed | None = None) -> list[Match]:
    """Match the words of two questions one to one.

    Identical words and forms of one word are matched first, then words near in meaning. Both steps are linear
    assignments (Kuhn 1955; scipy's implementation after Crouse 2016). Ties go to words at similar positions.

    Args:
        words1, words2: At most `MAX_WORDS` each.
        embed: Returns the vectors of single words; None: no words are matched by meaning.

    Returns:
        The matches in the order of the first question's words.
    """
    level = np.zeros((len(words1), len(words2)))
    for i, a in enumerate(words1):
        for j, b in enumerate(words2):
            if a.key == b.key and a.function == b.function:
                level[i, j] = 3.0
            elif a.lemmas & b.lemmas or _same_name(a, b):
                level[i, j] = 2.0
    kinds = {3.0: MatchKind.IDENTICAL, 2.0: MatchKind.FORM}
    matches = [Match(i, j, kinds[level[i, j]]) for i, j in _assign(level, words1, words2)]
    if embed is not None:
        left = _unmatched_content(words1, {match.word1 for match in matches})
        right = _unmatched_content(words2, {match.word2 for match in matches})
        matches += _near_matches(words1, words2, left, right, embed)
    return sorted(matches, key=lambda match: match.word1)


def _same_name(a: Word, b: Word) -> bool:
    """Return True for two spellings of a name, such as Hillary and Hilary.

    They begin with the same letter. One is the other with up to 3 more letters (Korea, Korean), or they are one letter
    apart.
    """
    if not (a.name and b.name):
        return False
    short, long = sorted((a.key, b.key), key=len)
    if len(short) < 4 or short[0] != long[0]:
        return False
    same = next((i for i, (x, y) in enumerate(zip(short, long, strict=False)) if x != y), len(short))
    if same == len(short):
        return len(long) - same <= 3
    return len(short) > 4 and short[same + (len(short) == len(long)) :] == long[same + 1 :]


def _unmatched_content(words: Sequence[Word], matched: set[int]) -> list[int]:
    """Return the indices of words that may match by meaning; numbers may not."""
    return [
        index
        for index, word in enumerate(words)
        if index not in matched and not word.function and word.number is None and any(c.isalpha() for c in word.key)
    ]


def _assign(weights: NDArray[np.float64], words1: Sequence[Word], words2: Sequence[Word]) -> list[tuple[int, int]]:
    """Return the one-to-one pairs of positive weight with the largest sum.

    Similar positions break ties.
    """
    if not weights.any():
        return []
    from scipy.optimize import linear_sum_assignment

    position1 = np.arange(len(words1)) / len(words1)
    position2 = np.arange(len(words2)) / len(words2)
    closeness = 1e-3 * (1 - np.abs(position1[:, None] - position2[None, :]))
    rows, columns = linear_sum_assignment(np.where(weights > 0, weights + closeness, 0.0), maximize=True)
    return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if weights[i, j] > 0]


def near_level(embed: Embed) -> float:
    """Return the cosine from which two words are near in meaning.

    It is 3 standard deviations above the mean cosine of unrelated words.
    """
    unrelated = lexicon.load("unrelated")
    vectors = np.asarray(embed(unrelated), dtype=np.float64)
    cosines = (vectors @ vectors.T)[np.triu_indices(len(unrelated), 1)]
    return float(cosines.mean() + 3 * cosines.std())


def _near_matches(
    words1: Sequence[Word], words2: Sequence[Word], left: list[int], right: list[int], embed: Embed
) -> list[Match]:
    if not left or not right:
        return []
    texts = sorted({words1[i].key for i in left} | {words2[j].key for j in right})
    vectors = dict(zip(texts, np.asarray(embed(texts), dtype=np.float64), strict=True))
    cosines = np.array([[float(vectors[words1[i].key] @ vectors[words2[j].key]) for j in right] for i in left])
    level = near_level(embed)
    for row, i in enumerate(left):
        for column, j in enumerate(right):
            # Two names, or two opposites, have near vectors and different meanings.
            if (words1[i].name and words2[j].name) or opposed(words1[i], words2[j]) or cosines[row, column] < level:
                cosines[row, column] = 0.0
    chosen = _assign(cosines, [words1[i] for i in left], [words2[j] for j in right])
    return [Match(left[row], right[column], MatchKind.NEAR, min(1.0, cosines[row, column])) for row, column in chosen]


def opposed(a: Word, b: Word) -> bool:
    """Return True for opposites by the lexicon or by a prefix (follow, unfollow)."""
    if any(frozenset((x, y)) in english.OPPOSITES for x in a.forms for y in b.forms):
        return True
    short, long = sorted((a, b), key=lambda word: len(word.key))
    return any(
        len(base) > 4 and form == prefix + base
        for prefix in ("un", "non", "il", "ir")
        for base in short.lemmas
        for form in long.lemmas
    )
