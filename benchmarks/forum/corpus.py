"""A forum made of labelled pairs: its distinct questions, and which of them are known to be duplicates or distinct."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dupq.data.splits import load_pairs


@dataclass(frozen=True)
class Corpus:
    """n distinct questions in the order in which the file first names them.

    Attributes:
        texts: The questions.
        left, right, labels: The labelled pairs between different ones of them, left < right, each once.
    """

    texts: Sequence[str]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    labels: NDArray[np.int8]

    @classmethod
    def of(cls, path: str, where: Mapping[str, str] | None = None) -> Corpus:
        table = load_pairs(path, where=where)
        place: dict[str, int] = {}
        for pair in zip(table.left, table.right, strict=True):
            for text in pair:
                place.setdefault(text, len(place))
        ends = np.array([[place[a], place[b]] for a, b in zip(table.left, table.right, strict=True)])
        low, high = ends.min(axis=1), ends.max(axis=1)
        # The last label of a pair that is labelled twice counts.
        known = {(a, b): label for a, b, label in zip(low, high, table.labels, strict=True) if a != b}
        pairs = np.array(sorted(known), np.int64)
        labels = np.array([known[pair] for pair in map(tuple, pairs.tolist())], np.int8)
        return cls(list(place), pairs[:, 0], pairs[:, 1], labels)

    def prefix(self, n: int) -> Corpus:
        """The first n questions, and the labelled pairs among them."""
        inside = self.right < n
        return Corpus(self.texts[:n], self.left[inside], self.right[inside], self.labels[inside])

    def keys(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
        """One number a pair, whichever way round it is."""
        return np.minimum(left, right) * len(self.texts) + np.maximum(left, right)

    def quality(
        self, left: NDArray[np.int64], right: NDArray[np.int64], score: NDArray[np.float64], flagged: int | None = None
    ) -> dict[str, Any]:
        """How well a list of pairs, best first, agrees with the labels.

        Args:
            left, right: Question numbers.
            score: What they are ordered by, falling.
            flagged: How many of them, from the top, are called duplicates; None: all.

        Returns:
            pairs: how many there are; average_precision: as `ParaphraseMiningEvaluator` counts it, where a pair without
            a label is wrong, and pairs of one score come in together; and of the flagged pairs recall, over all
            labelled duplicates, and precision, over those flagged pairs that have a label.
        """
        keys, known = self.keys(left, right), self.keys(self.left, self.right)
        duplicates = known[self.labels == 1]
        hits = np.isin(keys, duplicates)
        last = np.flatnonzero(np.append(np.diff(score) != 0, True)) if len(score) else np.zeros(0, np.int64)
        correct = np.cumsum(hits)[last]
        precision = correct / (last + 1)
        cut = len(keys) if flagged is None else flagged
        labelled = np.isin(keys[:cut], known)
        return {
            "pairs": len(keys),
            "flagged": cut,
            "flagged_with_label": int(labelled.sum()),
            "average_precision": float(precision @ np.diff(correct, prepend=0) / len(duplicates))
            if len(duplicates)
            else 0.0,
            "recall": float(hits[:cut].sum() / len(duplicates)) if len(duplicates) else 0.0,
            "precision": float(hits[:cut].sum() / labelled.sum()) if labelled.any() else 0.0,
        }
