"""The forms in which a network lies in a pipeline folder, and how each is opened."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from dupq.errors import ModelFolderError
from dupq.models.scorers import Embedder, Scorer

STOCK = "sentence-transformers"
INT8 = "onnx-int8"


class StoredScorer(Scorer, Protocol):
    """A cross-encoder that can be written to a folder."""

    @property
    def form(self) -> str:
        """`STOCK` or `INT8`."""
        ...

    def save(self, folder: Path) -> None:
        """Writes the network."""
        ...


class StoredEmbedder(Embedder, Protocol):
    """A bi-encoder that can be written to a folder."""

    @property
    def form(self) -> str:
        """`STOCK` or `INT8`."""
        ...

    def save(self, folder: Path) -> None:
        """Writes the network."""
        ...


def open_cross_encoder(form: str, folder: Path, device: str | None = None) -> StoredScorer:
    """Opens a cross-encoder of either form."""
    if form == INT8:
        from dupq.models.runtime import RuntimeCrossEncoder

        return RuntimeCrossEncoder(folder)
    _check_form(form, folder)
    from dupq.models.cross_encoder import CrossEncoderScorer

    return CrossEncoderScorer(folder, device=device)


def open_bi_encoder(form: str, folder: Path, device: str | None = None) -> StoredEmbedder:
    """Opens a bi-encoder of either form."""
    if form == INT8:
        from dupq.models.runtime import RuntimeBiEncoder

        return RuntimeBiEncoder(folder)
    _check_form(form, folder)
    from dupq.models.bi_encoder import BiEncoder

    return BiEncoder(folder, device=device)


def _check_form(form: str, folder: Path) -> None:
    if form != STOCK:
        raise ModelFolderError(
            f"a network of the form {form!r} is not known", where=str(folder), mend="pip install --upgrade dupq"
        )
