"""Networks without weights: a scorer and an embedder that count words, for tests of what stands above them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dupq.data.text import fingerprint, normalise
from dupq.types import Progress


@dataclass
class WordScorer:
    """The more words two questions share, the higher: logit of a smoothed Jaccard index."""

    form: str = "words"
    fingerprint: str = "word-scorer"

    def score(self, left: Sequence[str], right: Sequence[str], progress: Progress | None = None) -> NDArray[np.float64]:
        scores = np.zeros(len(left))
        for index, (a, b) in enumerate(zip(left, right, strict=True)):
            x, y = set(normalise(a).split()), set(normalise(b).split())
            share = (len(x & y) + 0.1) / (len(x | y) + 0.2)
            scores[index] = 3 * math.log(share / (1 - share))
        if progress:
            progress(len(left), len(left))
        return scores

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "words.json").write_text(json.dumps({"form": self.form}), encoding="utf-8")


@dataclass
class WordEmbedder:
    """A bag of words, hashed to unit vectors."""

    dimensions: int = 64
    form: str = "words"
    fingerprint: str = "word-embedder"

    def embed(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in normalise(text).split():
                vectors[row, fingerprint(word) % self.dimensions] += 1
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "words.json").write_text(json.dumps({"form": self.form}), encoding="utf-8")
