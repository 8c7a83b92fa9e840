"""The cross-encoder: both questions in one input, through a stock `CrossEncoder`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dupq.errors import ModelFolderError
from dupq.models.orders import Symmetry, symmetric_scores
from dupq.models.scorers import Progress, chunks, combined_fingerprint
from dupq.models.stock import open_stock, save_stock, weights_fingerprint

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder


class CrossEncoderScorer:
    """Scores pairs by a stock sentence-transformers `CrossEncoder` with one output.

    The score is the raw logit: the sigmoid that a `CrossEncoder` applies by itself is left off.

    Args:
        model: A stock `CrossEncoder`, or the folder or Hub id of one.
        symmetry: In which order it reads a pair, see `dupq.models.orders.Symmetry`. Whichever it is, score(a, b) ==
            score(b, a) to the last bit.
        batch_size: Pairs a batch.
        device: "cpu", "cuda" or None for whatever there is.
        half: Compute in float16, for GPUs: there a score depends on its batch by about a thousandth of its spread.
    """

    def __init__(
        self,
        model: CrossEncoder | str | Path,
        *,
        symmetry: Symmetry = "canonical",
        batch_size: int = 64,
        device: str | None = None,
        half: bool = False,
    ) -> None:
        self.model: CrossEncoder = (
            open_stock("cross-encoder", str(model), device, half) if isinstance(model, (str, Path)) else model
        )
        if self.model.num_labels != 1:
            raise ModelFolderError(
                f"this cross-encoder has {self.model.num_labels} outputs, not 1",
                where=str(model),
                mend="use one trained on pairs with labels 0 and 1",
            )
        self.symmetry: Symmetry = symmetry
        self.batch_size = batch_size

    @cached_property
    def fingerprint(self) -> str:
        return combined_fingerprint("cross-encoder", self.symmetry, weights_fingerprint(self.model))

    form = "sentence-transformers"

    def save(self, folder: Path) -> None:
        """Writes the network as a folder that a stock `CrossEncoder` opens."""
        save_stock(self.model, folder)

    def score(self, left: Sequence[str], right: Sequence[str], progress: Progress | None = None) -> NDArray[np.float64]:
        return symmetric_scores(self._read, left, right, self.symmetry, progress)

    def _read(self, pairs: list[tuple[str, str]], progress: Progress | None) -> NDArray[np.float64]:
        import torch

        logits, plain = np.empty(len(pairs)), torch.nn.Identity()
        # Chunks bound the memory; the model itself sorts each by length.
        for part in chunks(len(pairs), 64 * self.batch_size):
            logits[part] = self.model.predict(
                pairs[part], batch_size=self.batch_size, activation_fn=plain, show_progress_bar=False
            )
            if progress:
                progress(part.stop, len(pairs))
        return logits
