"""Cross-encoder: both questions in one input, by a stock `CrossEncoder`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dupq.errors import ModelFolderError
from dupq.models.batching import chunks
from dupq.models.fingerprint import ComparedByFingerprint, combined_fingerprint
from dupq.models.long_text import LongPairs
from dupq.models.sentence_transformers_io import open_stock, save_stock, weights_fingerprint
from dupq.models.symmetry import Symmetry, symmetric_scores
from dupq.models.truncation import cut_pairs_for
from dupq.models.vocabulary import Vocabulary, stock_vocabulary
from dupq.types import Progress

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

    from dupq.models.pair_heads.template import ResponseMap


class CrossEncoderScorer(ComparedByFingerprint):
    """Scorer that runs a stock sentence-transformers `CrossEncoder` with one output.

    The score is the raw logit, without the sigmoid that a `CrossEncoder` applies by default, and symmetric to the last
    bit.

    Args:
        model: A stock `CrossEncoder`, or the folder or Hub id of one.
        symmetry: See `dupq.models.symmetry.Symmetry`.
        batch_size: Pairs a batch.
        device: "cpu", "cuda", or None for the GPU if there is one.
        half: Compute in float16, for GPUs. A score then depends on its batch by about 0.001 of the scores' spread.
        long_pairs: Rule for long texts, see `dupq.models.long_text.LongPairs`.

    Raises:
        ModelFolderError: The folder is missing, damaged or unsafe, or the network has more than one output.
    """

    form = "sentence-transformers"

    def __init__(
        self,
        model: CrossEncoder | str | Path,
        *,
        symmetry: Symmetry = "canonical",
        batch_size: int = 64,
        device: str | None = None,
        half: bool = False,
        long_pairs: LongPairs = "whole",
    ) -> None:
        self.model: CrossEncoder = (
            open_stock("cross-encoder", str(model), device, half) if isinstance(model, (str, Path)) else model
        )
        if self.model.num_labels != 1:
            raise ModelFolderError(
                f"a cross-encoder must have 1 output, got {self.model.num_labels}",
                location=str(model),
                hint="use one that was trained on pairs with labels 0 and 1",
            )
        self.symmetry: Symmetry = symmetry
        self.long_pairs: LongPairs = long_pairs
        self.batch_size = batch_size

    @cached_property
    def fingerprint(self) -> str:
        reading = () if self.long_pairs == "whole" else (self.long_pairs,)
        return combined_fingerprint("cross-encoder", self.symmetry, *reading, weights_fingerprint(self.model))

    @cached_property
    def vocabulary(self) -> Vocabulary | None:
        """Vocabulary and token limit of the network; None if unknown."""
        return stock_vocabulary(self.model)

    def save(self, folder: Path) -> None:
        """Write a folder that a stock `CrossEncoder` opens; see `save_stock`."""
        save_stock(self.model, folder)

    def score(self, left: Sequence[str], right: Sequence[str], progress: Progress | None = None) -> NDArray[np.float64]:
        return symmetric_scores(self._logits, left, right, self.symmetry, progress, self.long_pairs)

    def response_map(self, question1: str, question2: str) -> ResponseMap | None:
        """Slide the shorter question over the longer one.

        See `dupq.models.pair_heads.template.response_map`.
        """
        from dupq.models.pair_heads.template import response_map

        return response_map(self.model, question1, question2)

    def _logits(self, pairs: list[tuple[str, str]], progress: Progress | None) -> NDArray[np.float64]:
        import torch

        logits, plain = np.empty(len(pairs)), torch.nn.Identity()
        # Chunks bound the memory; the model sorts each by length.
        for part in chunks(len(pairs), 64 * self.batch_size):
            logits[part] = self.model.predict(
                cut_pairs_for(self.model, pairs[part]),
                batch_size=self.batch_size,
                activation_fn=plain,
                show_progress_bar=False,
            )
            if progress:
                progress(part.stop, len(pairs))
        return logits
