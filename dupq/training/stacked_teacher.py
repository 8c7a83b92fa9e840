"""Two networks and what they overlook as one teacher: what may cost ten times as much once, a student then does alone.

No larger network is needed. The teacher is better than its parts by three means: the cross-encoder reads a pair in both
orders; the bi-encoder's word is stacked with its own; and the words that two questions share correct both, as networks
count them for more than they are worth on pairs that are near anyway. Teaching a network by an ensemble that holds
itself is self-distillation (Furlanello et al. 2018, Born-Again Neural Networks).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dupq.data.splits import PairTable
from dupq.errors import InputError
from dupq.models.scorers import (
    BlendScorer,
    CosineScorer,
    Embedder,
    Progress,
    Scorer,
    check_lengths,
    combined_fingerprint,
    fit_weights,
)

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class SharedWordsScorer:
    """The share of the words of two questions that both have, each word by how rare it is.

    The sum of the inverse document frequencies (Spärck Jones 1972) of the words in both, over that of the words in
    either: in [0, 1], 0 where there is no word.

    Attributes:
        counts: In how many of the texts each word stands.
        texts: How many texts there were.
    """

    counts: Counter[str]
    texts: int

    @classmethod
    def of(cls, texts: Iterable[str]) -> SharedWordsScorer:
        """Counts the words of a corpus, in which each distinct text counts once."""
        distinct = set(texts)
        return cls(Counter(word for text in distinct for word in words(text)), len(distinct))

    @property
    def fingerprint(self) -> str:
        return combined_fingerprint("shared words", self.texts, sorted(self.counts.items()))

    def score(self, left: Sequence[str], right: Sequence[str], progress: Progress | None = None) -> NDArray[np.float64]:
        check_lengths(left, right)
        return np.array([self._share(words(a), words(b)) for a, b in zip(left, right, strict=True)], dtype=np.float64)

    def _share(self, left: set[str], right: set[str]) -> float:
        either = self._weight(left | right)
        return self._weight(left & right) / either if either else 0.0

    def _weight(self, found: set[str]) -> float:
        # Sorted, so that the sum is rounded alike whichever text came first.
        return sum(math.log((1 + self.texts) / (1 + self.counts[word])) for word in sorted(found))


def words(text: str) -> set[str]:
    """The words of a text, in lower case."""
    return set(_WORD.findall(text.lower()))


def stacked_teacher(cross_encoder: Scorer, bi_encoder: Embedder, held_out: PairTable, corpus: Iterable[str]) -> Scorer:
    """Stacks both networks and the words that a pair shares, by logistic regression on held-out pairs (Wolpert 1992).

    Args:
        cross_encoder: Best one that reads both orders.
        bi_encoder: Its cosine is the second member.
        held_out: Labelled pairs that neither was trained on. They are not learned, but set three weights.
        corpus: Texts that tell which words are rare.

    Returns:
        A scorer for `teacher_targets`; its score is a logit of the probability of a duplicate.

    Raises:
        InputError: The held-out pairs are not of both labels.
    """
    if set(held_out.labels.tolist()) != {0, 1}:
        raise InputError(
            "the held-out pairs are not of both labels, 0 and 1", mend="give pairs such as `dupq split` leaves for it"
        )
    members = (cross_encoder, CosineScorer(bi_encoder), SharedWordsScorer.of(corpus))
    stack = BlendScorer(members, (1.0, 1.0, 1.0))
    weights, offset = fit_weights(stack.members(held_out.left, held_out.right), held_out.labels, signed=True)
    return BlendScorer(members, weights, offset)
