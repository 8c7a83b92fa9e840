"""How many of the rare words of two questions both have: a check on networks, which make too much of near words."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dupq.data.writing import write_json
from dupq.errors import ModelFolderError
from dupq.models.safety import read_json
from dupq.models.scorers import Progress, check_lengths, combined_fingerprint

LEAST_TEXTS = 5
"""A word of fewer texts is as rare as one of none: it is not worth its place in a folder."""

_WORD = re.compile(r"\w+")
_QUESTION_MARKS = ("?", "\uff1f", "\u061f")
"""The Latin, the full-width and the Arabic one."""


@dataclass(frozen=True)
class SharedWords:
    """The share of the words of two questions that both have, each word by how rare it is.

    The sum of the inverse document frequencies (Spärck Jones 1972) of the words in both, over that of the words in
    either: in [0, 1], 0 where there is no word. What it is worth is learned from pairs of questions and told of nothing
    else: unless both texts end with a question mark it is 0.

    Attributes:
        counts: In how many of the texts each word stands.
        texts: How many texts there were.
    """

    counts: Mapping[str, int]
    texts: int

    @classmethod
    def of(cls, texts: Iterable[str], least: int = LEAST_TEXTS) -> SharedWords:
        """Counts the words of a corpus, in which each distinct text counts once; those of `least` texts are kept."""
        distinct = set(texts)
        counts = Counter(word for text in distinct for word in set(words(text)))
        return cls({word: counts[word] for word in sorted(counts) if counts[word] >= least}, len(distinct))

    @cached_property
    def fingerprint(self) -> str:
        return combined_fingerprint("shared words", self.texts, sorted(self.counts.items()))

    def score(self, left: Sequence[str], right: Sequence[str], progress: Progress | None = None) -> NDArray[np.float64]:
        check_lengths(left, right)
        return np.array([self._share(a, b) for a, b in zip(left, right, strict=True)], dtype=np.float64)

    def _share(self, left: str, right: str) -> float:
        if not (_asks(left) and _asks(right)):
            return 0.0
        one, other = set(words(left)), set(words(right))
        either = self._weight(one | other)
        return self._weight(one & other) / either if either else 0.0

    def _weight(self, found: set[str]) -> float:
        # Sorted, so that the sum is rounded alike whichever text came first.
        return sum(math.log((1 + self.texts) / (1 + self.counts.get(word, 0))) for word in sorted(found))

    def save(self, path: Path) -> None:
        """Writes the counts as JSON."""
        write_json(path, {"texts": self.texts, "counts": dict(self.counts)})

    @classmethod
    def read(cls, path: Path) -> SharedWords:
        """What `save` wrote.

        Raises:
            ModelFolderError: It is something else.
        """
        content = read_json(path)
        counts, texts = (content.get("counts"), content.get("texts")) if isinstance(content, dict) else (None, None)
        if not isinstance(counts, dict) or type(texts) is not int or texts < 1:
            raise ModelFolderError("it holds no counts of words", where=str(path), mend="save the pipeline again")
        if not all(type(count) is int and 0 < count <= texts for count in counts.values()):
            raise ModelFolderError("a count is none of texts", where=str(path), mend="save the pipeline again")
        return cls(counts, texts)


def words(text: str) -> list[str]:
    """The words of a text as they follow each other, in lower case."""
    return _WORD.findall(text.lower())


def _asks(text: str) -> bool:
    return text.rstrip().endswith(_QUESTION_MARKS)
