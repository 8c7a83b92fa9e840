"""A forum made of labelled pairs: its distinct questions, and which of them are known to be duplicates or distinct."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from dupq.data.pairs import load_pairs

Marks = NDArray[np.bool_]


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

    @property
    def duplicate_components(self) -> NDArray[np.int64]:
        """Of each question the number of its closure: those that a chain of labelled duplicates joins, (n,)."""
        same, n = self.labels == 1, len(self.texts)
        edges = coo_matrix((np.ones(same.sum()), (self.left[same], self.right[same])), shape=(n, n))
        return np.asarray(connected_components(edges, directed=False)[1], np.int64)

    @property
    def closure_pairs(self) -> NDArray[np.int64]:
        """How many pairs lie within each closure, (number of closures,)."""
        sizes = np.bincount(self.duplicate_components)
        return np.asarray(sizes * (sizes - 1) // 2, np.int64)

    def marks(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> tuple[Marks, Marks, Marks]:
        """Of m pairs: which are labelled duplicates, which lie in one closure, and which have a label, (m,) each."""
        keys, known, duplicate_components = (
            self.keys(left, right),
            self.keys(self.left, self.right),
            self.duplicate_components,
        )
        return (
            np.isin(keys, known[self.labels == 1]),
            duplicate_components[left] == duplicate_components[right],
            np.isin(keys, known),
        )

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
            a label is wrong, and pairs of one score come in together; closure_average_precision: the same where every
            pair of one closure is right, as with its `add_transitive_closure`, since few pairs of a large closure were
            ever shown to anyone; labelled_average_precision: of that the pairs alone of which the labels say
            something; and of the flagged pairs recall, over all labelled duplicates, and precision, over those flagged
            pairs that have a label.
        """
        hits, joined, told = self.marks(left, right)
        duplicates, within = int(self.labels.sum()), int(self.closure_pairs.sum())
        plain, closure, among_labelled = average_precisions((hits, joined, told), score, duplicates, within)
        cut = len(left) if flagged is None else flagged
        labelled = told[:cut]
        return {
            "pairs": len(left),
            "flagged": cut,
            "flagged_with_label": int(labelled.sum()),
            "average_precision": plain,
            "closure_average_precision": closure,
            "labelled_average_precision": among_labelled,
            "recall": float(hits[:cut].sum() / duplicates) if duplicates else 0.0,
            "precision": float(hits[:cut].sum() / labelled.sum()) if labelled.any() else 0.0,
        }


def average_precisions(
    marks: tuple[Marks, Marks, Marks],
    score: NDArray[np.float64],
    duplicates: float,
    within: float,
    weights: NDArray[np.float64] | None = None,
) -> tuple[float, float, float]:
    """The three of `Corpus.quality`: an unlabelled pair being wrong; with closures; of these and labelled pairs alone.

    Args:
        marks: As `Corpus.marks` gives them.
        score: (m,), falling.
        duplicates, within: How much the labelled duplicates, and the pairs within closures, weigh together.
        weights: How often each pair counts, (m,); None: once.
    """
    hits, joined, told = marks
    each = np.ones(len(score)) if weights is None else weights
    said = joined | told
    return (
        _average_precision(hits, score, duplicates, each),
        _average_precision(joined, score, within, each),
        _average_precision(joined[said], score[said], within, each[said]),
    )


def _average_precision(right: Marks, score: NDArray[np.float64], wanted: float, each: NDArray[np.float64]) -> float:
    """Of a list, best first, some of which are right; pairs of one score come in together."""
    if not wanted or not len(score):
        return 0.0
    last = np.flatnonzero(np.append(np.diff(score) != 0, True))
    correct, all_ = np.cumsum(right * each)[last], np.cumsum(each)[last]
    precision = correct / np.maximum(all_, 1e-12)  # before the first pair that counts there is nothing to divide
    return float(precision @ np.diff(correct, prepend=0) / wanted)
