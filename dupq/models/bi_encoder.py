"""Bi-encoder: one embedding a question, by a stock `SentenceTransformer`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dupq.models.batching import chunks
from dupq.models.fingerprint import ComparedByFingerprint, combined_fingerprint
from dupq.models.long_text import LongTexts, embed_long_texts
from dupq.models.sentence_transformers_io import open_stock, save_stock, weights_fingerprint
from dupq.models.truncation import cut_for
from dupq.models.vocabulary import Vocabulary, stock_vocabulary
from dupq.types import Progress

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class BiEncoder(ComparedByFingerprint):
    """Embedder that runs a stock sentence-transformers `SentenceTransformer`.

    Args:
        model: A stock `SentenceTransformer`, or the folder or Hub id of one.
        batch_size: Texts a batch.
        device: "cpu", "cuda", or None for the GPU if there is one.
        half: Compute in float16, for GPUs.
        long_texts: Rule for long texts, see `dupq.models.long_text.LongTexts`.

    Raises:
        ModelFolderError: The folder is missing, damaged or unsafe.
    """

    form = "sentence-transformers"

    def __init__(
        self,
        model: SentenceTransformer | str | Path,
        *,
        batch_size: int = 128,
        device: str | None = None,
        half: bool = False,
        long_texts: LongTexts = "whole",
    ) -> None:
        self.model: SentenceTransformer = (
            open_stock("bi-encoder", str(model), device, half) if isinstance(model, (str, Path)) else model
        )
        self.batch_size = batch_size
        self.long_texts: LongTexts = long_texts

    @cached_property
    def fingerprint(self) -> str:
        weights = weights_fingerprint(self.model)
        return combined_fingerprint("bi-encoder", *(() if self.long_texts == "whole" else (self.long_texts,)), weights)

    @cached_property
    def dimensions(self) -> int:
        return int(self.embed(["dimensions"]).shape[1])

    @cached_property
    def vocabulary(self) -> Vocabulary | None:
        """Vocabulary and token limit of the network; None if unknown."""
        return stock_vocabulary(self.model)

    def save(self, folder: Path) -> None:
        """Write a folder that a stock `SentenceTransformer` opens; see `save_stock`."""
        save_stock(self.model, folder)

    def embed(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        return embed_long_texts(self._embed, texts, self.long_texts, progress)

    def _embed(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        parts: list[NDArray[np.float32]] = []
        for part in chunks(len(texts), 64 * self.batch_size):
            vectors = self.model.encode(
                cut_for(self.model, texts[part]),
                batch_size=self.batch_size,
                normalize_embeddings=True,
                show_progress_bar=False,
            )
            if vectors.dtype != np.float32:  # in float16 the length of a unit vector is off by up to 0.001
                vectors = vectors.astype(np.float32)
                vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
            parts.append(vectors)
            if progress:
                progress(part.stop, len(texts))
        return np.concatenate(parts) if parts else np.zeros((0, self.dimensions), dtype=np.float32)
