"""The head of a long text counts twice: of a forum's post, that is where the question stands, or its title."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dupq.models.scorers import Progress

LongTexts = Literal["whole", "head"]
"""How a bi-encoder embeds a long text: as a whole, or by the mean of that and of its head alone."""

LONG = 32
"""Words: a text of more is long, as few questions in one sentence are."""
HEAD = 12
"""Words of the head."""


def embed_with_heads(
    embed: Callable[[Sequence[str], Progress | None], NDArray[np.float32]],
    texts: Sequence[str],
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """n texts -> float32 (n, d), rows of unit length.

    A text of over `LONG` words has the direction of the sum of two unit vectors: its own, and that of its first `HEAD`
    words. A mean over all tokens of a post tells what it is about, and drowns what it asks.
    """
    heads = {row: " ".join(found[:HEAD]) for row, text in enumerate(texts) if len(found := text.split()) > LONG}
    if not heads:
        return embed(texts, progress)
    vectors = embed([*texts, *heads.values()], progress)
    whole, rows = vectors[: len(texts)].copy(), list(heads)
    both = whole[rows] + vectors[len(texts) :]
    # Vectors that point away from each other have no mean to speak of.
    lengths = np.linalg.norm(both, axis=1, keepdims=True)
    whole[rows] = np.where(lengths > 1e-6, both / np.maximum(lengths, 1e-6), whole[rows])
    return whole
