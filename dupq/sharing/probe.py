"""A stock network is tried on two pairs when it is opened: much damage loads without a complaint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dupq.errors import ModelFolderError
from dupq.models.networks import StoredEmbedder, StoredScorer

_SHORT = ("How do I learn chess?", "Où est 学校? 😀")
_LONG = "why " * 700
"""Longer than any network of sentence-transformers reads, so that its own limit is tried too."""

# What torch and the tokenizers raise where shapes, types or settings do not fit together.
_DAMAGED = (OSError, ValueError, LookupError, RuntimeError, AttributeError, TypeError, ArithmeticError, AssertionError)
_AGAIN = "fetch or save the network again"


def probe(network: StoredScorer | StoredEmbedder, folder: Path) -> None:
    """Has a network that was opened from a folder without checksums score a short pair and a long one.

    Raises:
        ModelFolderError: It cannot score, its scores are not finite, or its tokenizer knows more tokens than it has
            vectors for, so that it would fail at the first text with one of these.
    """
    model: Any = network.model  # type: ignore[union-attr]
    tokens = getattr(getattr(model, "tokenizer", None), "vocab_size", 0)
    vectors = _vectors(model)
    if isinstance(tokens, int) and vectors and tokens > vectors:
        raise ModelFolderError(
            f"its tokenizer knows {tokens:,} tokens, and the network has vectors for {vectors:,}",
            where=str(_first(folder, "tokenizer.json", "vocab.txt")),
            mend=_AGAIN,
        )
    texts = [*_SHORT, _LONG, "why"]
    try:
        found = network.embed(texts) if hasattr(network, "embed") else network.score(texts[::2], texts[1::2])
    except _DAMAGED as error:
        lines = str(error).strip().splitlines()
        raise ModelFolderError(
            f"the network opens, and cannot score ({type(error).__name__}: {lines[0] if lines else 'no more is told'})",
            where=str(folder),
            mend=f"its configuration does not fit its weights: {_AGAIN}",
        ) from error
    if not np.isfinite(found).all():
        raise ModelFolderError(
            "the network's scores are not finite", where=str(_first(folder, "model.safetensors")), mend=_AGAIN
        )


def _vectors(model: Any) -> int:
    """The rows of the largest table of vectors in a torch network; 0 if there is none."""
    from torch import nn

    tables = (part.num_embeddings for part in model.modules() if isinstance(part, nn.Embedding | nn.EmbeddingBag))
    return max(tables, default=0)


def _first(folder: Path, *names: str) -> Path:
    """The first of these files that is there, else the folder."""
    return next((path for name in names for path in sorted(folder.rglob(name))), folder)
