"""Few-shot classification of questions by their embeddings, without training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dupq.data.arguments import as_choice
from dupq.errors import InputError
from dupq.models.batching import chunks
from dupq.types import Embedder

By = Literal["nearest", "centroid"]


@dataclass(frozen=True, slots=True)
class Prediction:
    """Predicted class of a question.

    Attributes:
        label: The class.
        example: The example of that class with the highest cosine.
        cosine: Cosine, in [-1, 1], to that example, or to the centroid of the class.
    """

    label: str
    example: str
    cosine: float


class FewShotClassifier:
    """Nearest-example or nearest-centroid classifier over sentence embeddings.

    Sources: Koch, Zemel & Salakhutdinov 2015 (a verification network as a one-shot classifier); Snell, Swersky & Zemel
    2017 (class centroids).

    Args:
        embedder: Any bi-encoder.
        examples: Questions of known class, one or more a class.
        labels: The class of each example.
        by: "nearest": the class of the nearest example; better with one or two examples a class. "centroid": the class
            with the nearest mean; better with more, because an outlier weighs less.

    Raises:
        InputError: There is no example, the lengths differ, or `by` is unknown.
    """

    def __init__(self, embedder: Embedder, examples: Sequence[str], labels: Sequence[str], by: By = "nearest") -> None:
        if not len(examples) or len(examples) != len(labels):
            raise InputError(
                f"examples and labels must have the same length, at least 1, got {len(examples)} and {len(labels)}",
                hint="give the class of each example",
            )
        as_choice(by, get_args(By), "by")
        self.embedder, self.examples, self.by = embedder, list(examples), by
        self.classes, self._class_of = np.unique(np.asarray(labels, dtype=object), return_inverse=True)
        self._vectors = embedder.embed(self.examples)
        sums = np.zeros((len(self.classes), self._vectors.shape[1]))
        np.add.at(sums, self._class_of, self._vectors)
        self._centroids = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """Predict the class of each of n texts.

        Ties go to the first class by name, then to the first example.
        """
        found: list[Prediction] = []
        vectors = self.embedder.embed(list(texts)).astype(np.float64)
        for part in chunks(len(texts), 1024):
            to_examples = vectors[part] @ self._vectors.T.astype(np.float64)
            to_classes = self._class_cosines(vectors[part], to_examples)
            for row, best in enumerate(to_classes.argmax(axis=1)):
                own = np.flatnonzero(self._class_of == best)
                example = self.examples[own[to_examples[row, own].argmax()]]
                found.append(Prediction(str(self.classes[best]), example, float(to_classes[row, best])))
        return found

    def _class_cosines(self, vectors: NDArray[np.float64], to_examples: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.by == "centroid":
            return np.asarray(vectors @ self._centroids.T)
        cosines = np.full((len(vectors), len(self.classes)), -np.inf)
        np.maximum.at(cosines.T, self._class_of, to_examples.T)
        return cosines
