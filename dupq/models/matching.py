"""One-shot and few-shot matching: new kinds of question are known from a few examples, and nothing is retrained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dupq.errors import InputError
from dupq.models.scorers import Embedder, chunks

By = Literal["nearest", "centre"]


@dataclass(frozen=True, slots=True)
class Match:
    """What a question was matched with.

    Attributes:
        kind: The class.
        example: The known question that is nearest to it within that class.
        cosine: To what it was matched by: that example, or the centre of the class.
    """

    kind: str
    example: str
    cosine: float


class FewShotMatcher:
    """Gives a question the class of the known question that is nearest to it.

    Source: the verification network as a one-shot classifier (Koch, Zemel & Salakhutdinov 2015); class centres as of
    Snell, Swersky & Zemel 2017.

    Args:
        embedder: Any bi-encoder.
        examples: Known questions, one or more a class.
        kinds: The class of each.
        by: "nearest": the nearest example decides; the better with one or two a class. "centre": the nearest mean of a
            class's examples; the better with more, for one odd example then counts for less.

    Raises:
        InputError: No examples, as many kinds as not examples, or an unknown `by`.
    """

    def __init__(self, embedder: Embedder, examples: Sequence[str], kinds: Sequence[str], by: By = "nearest") -> None:
        if not len(examples) or len(examples) != len(kinds):
            raise InputError(f"{len(examples)} examples but {len(kinds)} classes", mend="name the class of each")
        if by not in get_args(By):
            raise InputError(f"{by!r} is no way of matching", mend=f"use one of {', '.join(get_args(By))}")
        self.embedder, self.examples, self.by = embedder, list(examples), by
        self.kinds, self._kind_of = np.unique(np.asarray(kinds, dtype=object), return_inverse=True)
        self._vectors = embedder.embed(self.examples)
        sums = np.zeros((len(self.kinds), self._vectors.shape[1]))
        np.add.at(sums, self._kind_of, self._vectors)
        self._centres = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)

    def match(self, texts: Sequence[str]) -> list[Match]:
        """The match of each text; of equally near ones, the first in the order of class names or of examples."""
        found: list[Match] = []
        vectors = self.embedder.embed(list(texts)).astype(np.float64)
        for part in chunks(len(texts), 1024):
            to_examples = vectors[part] @ self._vectors.T.astype(np.float64)
            to_kinds = self._to_kinds(vectors[part], to_examples)
            for row, kind in enumerate(to_kinds.argmax(axis=1)):
                own = np.flatnonzero(self._kind_of == kind)
                example = self.examples[own[to_examples[row, own].argmax()]]
                found.append(Match(str(self.kinds[kind]), example, float(to_kinds[row, kind])))
        return found

    def _to_kinds(self, vectors: NDArray[np.float64], to_examples: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.by == "centre":
            return np.asarray(vectors @ self._centres.T)
        best = np.full((len(vectors), len(self.kinds)), -np.inf)
        for example, kind in enumerate(self._kind_of):
            np.maximum(best[:, kind], to_examples[:, example], out=best[:, kind])
        return best
