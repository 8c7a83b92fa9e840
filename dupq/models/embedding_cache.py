"""Embeddings cached between calls, for streams in which texts recur."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from threading import Lock

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from dupq.data.arguments import as_int
from dupq.models.fingerprint import ComparedByFingerprint
from dupq.models.loading import StoredEmbedder
from dupq.models.per_process import PerProcess
from dupq.models.vocabulary import Vocabulary
from dupq.types import Progress


class EmbeddingCache(ComparedByFingerprint):
    """Embedder that caches the vectors of the `size` texts used last.

    It can be shared between threads. A forked process, a pickle and a copy start with an empty cache.

    Args:
        inner: Embeds the texts that are not in the cache.
        size: Number of texts in the cache, 1 or more. At 384 dimensions 32,768 texts take 60 MB.

    Raises:
        InputError: `size` is not an int of 1 or more.
    """

    def __init__(self, inner: StoredEmbedder, size: int = 32_768) -> None:
        self.inner = inner
        self.size = as_int(size, "size", 1, hint="give the number of texts to keep")
        self._cache = PerProcess(partial(_locked_cache, self.size))

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
        """Rule for long texts of the inner embedder."""
        return getattr(self.inner, "long_texts", "whole")

    @property
    def vocabulary(self) -> Vocabulary | None:
        """Vocabulary of the inner embedder; None if unknown."""
        return getattr(self.inner, "vocabulary", None)

    def save(self, folder: Path) -> None:
        """Write the network; the cache is not saved."""
        self.inner.save(folder)

    def embed(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """Embed n texts, each distinct one at most once.

        Returns:
            float32 (n, d), rows of unit length.
        """
        cache, lock = self._cache.get()
        with lock:
            vectors = {text: cache[text] for text in dict.fromkeys(texts) if text in cache}
        if missing := [text for text in dict.fromkeys(texts) if text not in vectors]:
            # Outside the lock: two threads may embed the same text, and get the same vector.
            vectors.update(zip(missing, self.inner.embed(missing, progress), strict=True))
            with lock:
                # Copies, because a row would keep its whole batch in memory.
                cache.update((text, vectors[text].copy()) for text in missing[-self.size :])
        elif progress:
            progress(len(vectors), len(vectors))
        rows = [vectors[text] for text in texts]
        return np.array(rows, dtype=np.float32).reshape(len(rows), self.dimensions)


def _locked_cache(size: int) -> tuple[LRUCache[str, NDArray[np.float32]], Lock]:
    return LRUCache(size), Lock()
