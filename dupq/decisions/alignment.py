"""Which word of one question answers to which of another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dupq.decisions import english
from dupq.decisions.words import Word

Embed = Callable[[Sequence[str]], NDArray[Any]]
"""n texts -> (n, d), rows of unit length."""

MAX_WORDS = 250
"""Words of a question that are aligned; the assignment takes time cubic in them."""


class MatchKind(str, Enum):
    """Why two words are held to answer to each other."""

    IDENTICAL = "identical"
    FORM = "form"
    NEAR = "near"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Match:
    """Two words that answer to each other.

    Attributes:
        word1, word2: Their places among the words of the first and of the second question.
        kind: Identical, another form of the same word, or near in meaning.
        likeness: The cosine of their vectors if near, else 1.
    """

    word1: int
    word2: int
    kind: MatchKind
    likeness: float = 1.0


def align(words1: Sequence[Word], words2: Sequence[Word], embed: Embed | None = None) -> list[Match]:
    """Pairs the words of two questions one to one: identical ones and forms first, then those near in meaning.

    Both steps are linear assignments (Kuhn 1955; scipy's implementation after Crouse 2016). Among equals, words that
    stand at like places are paired.

    Args:
        words1, words2: At most `MAX_WORDS` each.
        embed: Gives the vectors of single words; None: nothing is paired by meaning.

    Returns:
        The matches in the order of the first question's words.
    """
    level = np.zeros((len(words1), len(words2)))
    for i, a in enumerate(words1):
        for j, b in enumerate(words2):
            if a.key == b.key and a.function == b.function:
                level[i, j] = 3.0
            elif a.lemmas & b.lemmas or _one_name(a, b):
                level[i, j] = 2.0
    kinds = {3.0: MatchKind.IDENTICAL, 2.0: MatchKind.FORM}
    matches = [Match(i, j, kinds[level[i, j]]) for i, j in _assign(level, words1, words2)]
    if embed is not None:
        left = _free(words1, {match.word1 for match in matches})
        right = _free(words2, {match.word2 for match in matches})
        matches += _near(words1, words2, left, right, embed)
    return sorted(matches, key=lambda match: match.word1)


def _one_name(a: Word, b: Word) -> bool:
    """Whether two names are one: Korea and Korean, or Hillary and Hilary, which differ by one letter."""
    if not (a.name and b.name):
        return False
    short, long = sorted((a.key, b.key), key=len)
    if len(short) < 4 or short[0] != long[0]:
        return False
    same = next((i for i, (x, y) in enumerate(zip(short, long, strict=False)) if x != y), len(short))
    if same == len(short):
        return len(long) - same <= 3
    return len(short) > 4 and short[same + (len(short) == len(long)) :] == long[same + 1 :]


def _free(words: Sequence[Word], taken: set[int]) -> list[int]:
    """The words that may be paired by meaning: a number is never near to another one."""
    return [
        index
        for index, word in enumerate(words)
        if index not in taken and not word.function and word.number is None and any(c.isalpha() for c in word.key)
    ]


def _assign(weights: NDArray[np.float64], words1: Sequence[Word], words2: Sequence[Word]) -> list[tuple[int, int]]:
    """The one-to-one pairs of positive weight whose sum is largest; nearness of place breaks ties."""
    if not weights.any():
        return []
    from scipy.optimize import linear_sum_assignment

    place1 = np.arange(len(words1)) / len(words1)
    place2 = np.arange(len(words2)) / len(words2)
    closeness = 1e-3 * (1 - np.abs(place1[:, None] - place2[None, :]))
    rows, columns = linear_sum_assignment(np.where(weights > 0, weights + closeness, 0.0), maximize=True)
    return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if weights[i, j] > 0]


UNRELATED = (
    "banana", "engineer", "river", "music", "passport", "gravity", "tennis", "mortgage", "dinosaur", "grammar",
    "cancer", "bicycle", "election", "cheese", "volcano", "mirror", "soldier", "pension", "camel", "software",
    "umbrella", "poem", "oxygen", "carpet",
)  # fmt: skip
"""Words that have nothing to do with one another: near is held against how alike an encoder finds them."""


def near_level(embed: Embed) -> float:
    """The cosine from which two words are near for this encoder: 3 standard deviations above unrelated words."""
    vectors = np.asarray(embed(UNRELATED), dtype=np.float64)
    cosines = (vectors @ vectors.T)[np.triu_indices(len(UNRELATED), 1)]
    return float(cosines.mean() + 3 * cosines.std())


def _near(
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
            # Two names, or two opposites, have near vectors and do not mean the same.
            if (words1[i].name and words2[j].name) or opposed(words1[i], words2[j]) or cosines[row, column] < level:
                cosines[row, column] = 0.0
    chosen = _assign(cosines, [words1[i] for i in left], [words2[j] for j in right])
    return [Match(left[row], right[column], MatchKind.NEAR, min(1.0, cosines[row, column])) for row, column in chosen]


def opposed(a: Word, b: Word) -> bool:
    """Whether two words are opposites by the table, or by a prefix: follow and unfollow."""
    if any(frozenset((x, y)) in english.OPPOSITES for x in a.forms for y in b.forms):
        return True
    short, long = sorted((a, b), key=lambda word: len(word.key))
    return any(
        len(base) > 4 and form == prefix + base
        for prefix in ("un", "non", "il", "ir")
        for base in short.lemmas
        for form in long.lemmas
    )
