"""Smoke test of a network without checksums: much damage loads without an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dupq.errors import ModelFolderError
from dupq.models.loading import StoredEmbedder, StoredScorer

_SHORT = ("How do I learn chess?", "Où est 学校? 😀")
_LONG = "why " * 700
"""Longer than any network of sentence-transformers reads, so that truncation is tested too."""

# Errors of torch and the tokenizers where shapes, types or settings do not fit together.
_DAMAGE = (OSError, ValueError, LookupError, RuntimeError, AttributeError, TypeError, ArithmeticError, AssertionError)
_AGAIN = "fetch or save the network again"


def smoke_test(network: StoredScorer | StoredEmbedder, folder: Path) -> None:
    """Score a short and a long pair with a network without checksums.

    Raises:
        ModelFolderError: It cannot score, its scores are not finite, or its tokenizer has more tokens than its
            embedding table has rows, so that it would fail at the first text with one of these.
    """
    model: Any = network.model  # type: ignore[union-attr]
    tokens = getattr(getattr(model, "tokenizer", None), "vocab_size", 0)
    rows = _embedding_rows(model)
    if isinstance(tokens, int) and rows and tokens > rows:
        raise ModelFolderError(
            f"its tokenizer has {tokens:,} tokens, and its embedding table {rows:,} rows",
            location=str(_first_file(folder, "tokenizer.json", "vocab.txt")),
            hint=_AGAIN,
        )
    texts = [*_SHORT, _LONG, "why"]
    try:
        output = network.embed(texts) if hasattr(network, "embed") else network.score(texts[::2], texts[1::2])
    except _DAMAGE as error:
        lines = str(error).strip().splitlines()
        raise ModelFolderError(
            f"the network opens, and cannot score ({type(error).__name__}: {lines[0] if lines else 'no message'})",
            location=str(folder),
            hint=f"its configuration does not fit its weights: {_AGAIN}",
        ) from error
    if not np.isfinite(output).all():
        raise ModelFolderError(
            "the network's scores are not finite", location=str(_first_file(folder, "model.safetensors")), hint=_AGAIN
        )


def _embedding_rows(model: Any) -> int:
    """Return the rows of a torch network's largest embedding table; 0 without one."""
    from torch import nn

    tables = (part.num_embeddings for part in model.modules() if isinstance(part, nn.Embedding | nn.EmbeddingBag))
    return max(tables, default=0)


def _first_file(folder: Path, *names: str) -> Path:
    """Return the first of these files that exists, else the folder."""
    return next((path for name in names for path in sorted(folder.rglob(name))), folder)
