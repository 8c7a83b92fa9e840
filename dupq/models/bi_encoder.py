"""The bi-encoder: one shared encoder, an embedding a question, through a stock `SentenceTransformer`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dupq.models.heads import LongTexts, embed_with_heads
from dupq.models.runtime import unit_rows
from dupq.models.scorers import Progress, chunks, combined_fingerprint
from dupq.models.stock import open_stock, save_stock, weights_fingerprint

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class BiEncoder:
    """Embeds texts by a stock sentence-transformers `SentenceTransformer`.

    Args:
        model: A stock `SentenceTransformer`, or the folder or Hub id of one.
        batch_size: Texts a batch.
        device: "cpu", "cuda" or None for whatever there is.
        half: Compute in float16, for GPUs.
        long_texts: How a long text is embedded, see `dupq.models.heads.LongTexts`.
    """

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

    form = "sentence-transformers"

    def save(self, folder: Path) -> None:
        """Writes the network as a folder that a stock `SentenceTransformer` opens."""
        save_stock(self.model, folder)

    def embed(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        return (
            self._embed(texts, progress)
            if self.long_texts == "whole"
            else embed_with_heads(self._embed, texts, progress)
        )

    def _embed(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        parts: list[NDArray[np.float32]] = []
        for part in chunks(len(texts), 64 * self.batch_size):
            vectors = self.model.encode(
                list(texts[part]), batch_size=self.batch_size, normalize_embeddings=True, show_progress_bar=False
            )
            # In float16 a vector of unit length is so to a thousandth only.
            parts.append(vectors if vectors.dtype == np.float32 else unit_rows(vectors.astype(np.float32)))
            if progress:
                progress(part.stop, len(texts))
        return np.concatenate(parts) if parts else np.zeros((0, self.dimensions), dtype=np.float32)
