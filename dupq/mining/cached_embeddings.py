"""Vectors computed already, in place of the bi-encoder that computed them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dupq.decisions.decider import PairScorer, embedder_of
from dupq.errors import InputError
from dupq.search.vectors import StoredRows
from dupq.types import Embedder, Progress

Vectors = NDArray[np.float32] | StoredRows


class PrecomputedEmbedder:
    """Embedder that looks up known texts, and passes the others on.

    Args:
        embedder: The embedder that computed the vectors.
        row_of: Text -> its row.
        rows: The vectors, float32 (n, d).
    """

    def __init__(self, embedder: Embedder, row_of: Mapping[str, int], rows: Vectors) -> None:
        self.embedder, self.row_of, self.rows = embedder, row_of, rows
        self.form = str(getattr(embedder, "form", ""))

    @property
    def fingerprint(self) -> str:
        return self.embedder.fingerprint

    @property
    def dimensions(self) -> int:
        return self.embedder.dimensions

    def embed(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """Return unit vectors, float32 (n, d); only unknown texts are embedded."""
        at = np.array([self.row_of.get(text, -1) for text in texts], np.int64)
        vectors = np.empty((len(texts), self.dimensions), np.float32)
        vectors[at >= 0] = self.rows[at[at >= 0]]
        if (at < 0).any():
            vectors[at < 0] = self.embedder.embed([texts[row] for row in np.flatnonzero(at < 0).tolist()], progress)
        return vectors

    def save(self, folder: Path) -> None:
        """Refuse to save.

        Raises:
            InputError: Always: vectors are not a network.
        """
        raise InputError("vectors cannot be saved as a network", hint="save the pipeline that they come from")


def with_cached_embeddings(pipeline: PairScorer, texts: Sequence[str], rows: Vectors) -> PairScorer:
    """Return a pipeline that scores pairs of these texts without embedding them again.

    Args:
        pipeline: A pipeline with a bi-encoder.
        texts: n texts.
        rows: Their vectors, float32 (n, d).

    Raises:
        InputError: The pipeline has no bi-encoder.
    """
    row_of = {text: row for row, text in enumerate(texts)}
    return pipeline.with_embedder(PrecomputedEmbedder(embedder_of(pipeline), row_of, rows))
