"""Pairs of long texts out of short questions, for a student that shall also read posts with a title and a body.

Labelled pairs are of single questions; on longer texts a cross-encoder that saw no others ranks worse than the encoder
it started from. Questions near to each other, one after the other, read as a post does that says more than one thing;
what two such texts have in common, an untrained encoder's cosine tells (`dupq.training.distillation.cosine_teacher`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dupq.data.splits import PairTable
from dupq.errors import InputError
from dupq.models.scorers import Embedder, Progress, chunks
from dupq.training.distillation import CHUNK, RANKS

FAR = 0.2
"""Share of the pairs whose second text begins with any question at all: posts that have nothing in common."""


def long_pairs(
    pairs: PairTable,
    embedder: Embedder,
    count: int,
    *,
    sentences: int = 3,
    seed: int = 0,
    progress: Progress | None = None,
) -> PairTable:
    """Draws unlabelled pairs of texts of up to so many questions each.

    A text is a question and, after it, some of its near neighbours. The first questions of the two texts are near
    neighbours of each other, of a rank drawn from `RANKS`, but for a share `FAR` of the pairs.

    Args:
        pairs: Pairs of a training split, labelled or not; no question from elsewhere enters.
        embedder: What finds the neighbours.
        count: How many pairs at most; each question is the first of a left text once at most.
        sentences: Questions that a text has at most; how many it has is drawn evenly from 1 to that.
        seed: Another seed draws others.
        progress: Called with (questions searched, questions to search).

    Returns:
        At most `count` pairs, each with the label -1.

    Raises:
        InputError: Fewer than two sentences, or fewer questions than `RANKS` reach.
    """
    import torch

    if sentences < 2:
        raise InputError(f"sentences = {sentences} makes no long text", mend="give 2 or more")
    texts = sorted({*pairs.left, *pairs.right})
    if len(texts) <= max(RANKS) + 1:
        raise InputError(f"{len(texts)} questions are too few to find neighbours among", mend="give more pairs")
    vectors = torch.from_numpy(embedder.embed(texts))
    draw = np.random.default_rng(seed)
    first = draw.permutation(len(texts))[:count]

    def neighbours(rows: NDArray[np.int64], done: int) -> NDArray[np.int64]:
        found = []
        for part in chunks(len(rows), CHUNK):
            chosen = torch.from_numpy(rows[part])
            likeness = vectors[chosen] @ vectors.T
            likeness[torch.arange(len(chosen)), chosen] = -2.0
            found.append(likeness.topk(max(RANKS), dim=1).indices.numpy())
            if progress:
                progress(done + part.stop, 2 * len(rows))
        return np.concatenate(found)

    beside = neighbours(first, 0)
    second = beside[np.arange(len(first)), draw.choice(RANKS, len(first)) - 1]
    any_other = draw.integers(1, len(texts), len(first))
    second = np.where(draw.random(len(first)) < FAR, (first + any_other) % len(texts), second)

    def text(start: int, near: NDArray[np.int64], partner: int) -> str:
        more = draw.permutation(near[near != partner])[: draw.integers(sentences)]
        return " ".join(texts[row] for row in (start, *more.tolist()))

    drawn = [
        (text(one, near, other), text(other, near_other, one))
        for one, other, near, near_other in zip(
            first.tolist(), second.tolist(), beside, neighbours(second, len(first)), strict=True
        )
    ]
    return PairTable([a for a, _ in drawn], [b for _, b in drawn], np.full(len(drawn), -1, dtype=np.int8))
