"""IDF overlap: share of the rare words that two questions have in common."""

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

from dupq.data.arguments import as_texts
from dupq.data.text import check_text
from dupq.data.writing import write_json
from dupq.errors import ModelFolderError
from dupq.models.batching import check_lengths
from dupq.models.fingerprint import ComparedByFingerprint, combined_fingerprint
from dupq.models.safety import read_json
from dupq.types import Progress

MIN_TEXTS = 5
"""Number of texts that must hold a word for its count to be stored; a rarer word counts as unseen."""

_WORD = re.compile(r"\w+")
_QUESTION_MARKS = ("?", "\uff1f", "\u061f")
"""Latin, full-width and Arabic."""


@dataclass(frozen=True, eq=False)
class IdfOverlap(ComparedByFingerprint):
    """Scorer that weighs the words in both questions against the words in either.

    The score is the sum of the inverse document frequencies (Spärck Jones 1972) of the words in both texts, over that
    of the words in either: in [0, 1], 0 where there is no word. It is 0 unless both texts end with a question mark,
    because its weight in a blend is fitted on questions only.

    Attributes:
        counts: Word -> number of texts that hold it.
        texts: Number of texts.
    """

    counts: Mapping[str, int]
    texts: int

    @classmethod
    def of(cls, texts: Iterable[str], min_texts: int = MIN_TEXTS) -> IdfOverlap:
        """Count the words of a corpus.

        Args:
            texts: The corpus; equal texts count once.
            min_texts: Words in fewer texts are left out.

        Raises:
            InputError: A text is missing, blank or broken.
        """
        corpus = as_texts(list(texts) if isinstance(texts, (set, frozenset)) else texts, "corpus")
        for number, text in enumerate(corpus, 1):
            check_text(text, f"text {number} of the corpus")
        distinct = set(corpus)
        counts = Counter(word for text in distinct for word in set(words(text)))
        return cls({word: counts[word] for word in sorted(counts) if counts[word] >= min_texts}, len(distinct))

    @cached_property
    def fingerprint(self) -> str:
        return combined_fingerprint("shared words", self.texts, sorted(self.counts.items()))

    def score(self, left: Sequence[str], right: Sequence[str], progress: Progress | None = None) -> NDArray[np.float64]:
        check_lengths(left, right)
        return np.array([self._overlap(a, b) for a, b in zip(left, right, strict=True)], dtype=np.float64)

    def _overlap(self, left: str, right: str) -> float:
        if not all(text.rstrip().endswith(_QUESTION_MARKS) for text in (left, right)):
            return 0.0
        one, other = set(words(left)), set(words(right))
        either = self._sum_idf(one | other)
        return self._sum_idf(one & other) / either if either else 0.0

    def _sum_idf(self, found: set[str]) -> float:
        # Sorted, so that rounding does not depend on the order of the texts.
        return sum(math.log((1 + self.texts) / (1 + self.counts.get(word, 0))) for word in sorted(found))

    def save(self, path: Path) -> None:
        """Write the counts as JSON.

        Raises:
            OutputError: The file could not be written.
        """
        write_json(path, {"texts": self.texts, "counts": dict(self.counts)})

    @classmethod
    def read(cls, path: Path) -> IdfOverlap:
        """Read the counts that `save` wrote.

        Raises:
            ModelFolderError: The file is damaged or holds something else.
        """
        content = read_json(path)
        counts, texts = (content.get("counts"), content.get("texts")) if isinstance(content, dict) else (None, None)
        if not isinstance(counts, dict) or type(texts) is not int or texts < 1:
            raise ModelFolderError("it holds no counts of words", location=str(path), hint="save the pipeline again")
        if not all(type(count) is int and 0 < count <= texts for count in counts.values()):
            raise ModelFolderError(
                f"every count must be an int from 1 to {texts:,}", location=str(path), hint="save the pipeline again"
            )
        return cls(counts, texts)


def words(text: str) -> list[str]:
    """Return the words of a text in lower case, in their order."""
    return _WORD.findall(text.lower())
