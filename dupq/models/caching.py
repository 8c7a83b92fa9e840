"""Vectors that are remembered from call to call, for streams in which texts recur."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dupq.models.networks import StoredEmbedder
from dupq.models.scorers import Progress


class CachedEmbedder:
    """An embedder that keeps the vectors of the texts it saw last, so many and no more.

    Args:
        inner: What embeds the texts that are not remembered.
        size: Texts remembered; the oldest goes first. At 384 dimensions 32,768 take 50 MB.
    """

    def __init__(self, inner: StoredEmbedder, size: int = 32_768) -> None:
        self.inner = inner
        self._texts: list[str | None] = [None] * size
        self._places: dict[str, int] = {}
        self._vectors: NDArray[np.float32] | None = None
        self._next = 0

    @property
    def fingerprint(self) -> str:
        return self.inner.fingerprint

    @property
    def dimensions(self) -> int:
        return self.inner.dimensions

    @property
    def form(self) -> str:
        return self.inner.form

    @property
    def long_texts(self) -> str:
        """How the inner one embeds a long text."""
        return getattr(self.inner, "long_texts", "whole")

    def save(self, folder: Path) -> None:
        """Writes the network; what is remembered is not saved."""
        self.inner.save(folder)

    def embed(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        distinct = list(dict.fromkeys(texts))
        vectors = np.empty((len(distinct), self.dimensions), dtype=np.float32)
        known = np.array([self._places.get(text, -1) for text in distinct], dtype=np.int64)
        missing = np.flatnonzero(known < 0)
        if self._vectors is not None:
            vectors[known >= 0] = self._vectors[known[known >= 0]]
        if len(missing):
            vectors[missing] = self.inner.embed([distinct[row] for row in missing], progress)
            self._remember([distinct[row] for row in missing], vectors[missing])
        elif progress:
            progress(len(distinct), len(distinct))
        if len(distinct) == len(texts):
            return vectors
        rows = {text: row for row, text in enumerate(distinct)}
        return vectors[np.fromiter((rows[text] for text in texts), np.int64, len(texts))]

    def _remember(self, texts: list[str], vectors: NDArray[np.float32]) -> None:
        size = len(self._texts)
        if self._vectors is None:
            self._vectors = np.empty((size, self.dimensions), dtype=np.float32)
        for text, vector in zip(texts[-size:], vectors[-size:], strict=True):
            old = self._texts[self._next]
            if old is not None:
                del self._places[old]
            self._texts[self._next], self._places[text] = text, self._next
            self._vectors[self._next] = vector
            self._next = (self._next + 1) % size
