"""Two networks and what they overlook as one teacher: what may cost ten times as much once, a student then does alone.

No larger network is needed, though one may join. The teacher is better than its parts by three means: the
cross-encoder reads a pair in both orders; the bi-encoder's word is stacked with its own; and the words that two
questions share correct both, as networks count them for more than they are worth on pairs that are near anyway.
Teaching a network by an ensemble that holds itself is self-distillation (Furlanello et al. 2018, Born-Again Neural
Networks).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dupq.data.splits import PairTable
from dupq.errors import InputError
from dupq.models.scorers import BlendScorer, CosineScorer, Embedder, Scorer, fit_weights
from dupq.models.shared_words import SharedWords


def stacked_teacher(
    cross_encoder: Scorer,
    bi_encoder: Embedder,
    held_out: PairTable,
    corpus: Iterable[str],
    *,
    others: Sequence[Scorer] = (),
) -> Scorer:
    """Stacks both networks and the words that a pair shares, by logistic regression on held-out pairs (Wolpert 1992).

    Args:
        cross_encoder: Best one that reads both orders.
        bi_encoder: Its cosine is the second member.
        held_out: Labelled pairs that no member was trained on. They are not learned, but set a weight for each.
        corpus: Texts that tell which words are rare.
        others: More members, such as a larger cross-encoder. It may be trained on duplicates beyond their share: what
            that adds to its logit is a constant (Prentice & Pyke 1979), which the held-out pairs take off again.

    Returns:
        A scorer for `teacher_targets`; its score is a logit of the probability of a duplicate.

    Raises:
        InputError: The held-out pairs are not of both labels.
    """
    if set(held_out.labels.tolist()) != {0, 1}:
        raise InputError(
            "the held-out pairs are not of both labels, 0 and 1", mend="give pairs such as `dupq split` leaves for it"
        )
    members = (cross_encoder, CosineScorer(bi_encoder), SharedWords.of(corpus), *others)
    stack = BlendScorer(members, (1.0,) * len(members))
    weights, offset = fit_weights(stack.members(held_out.left, held_out.right), held_out.labels, signed=(2,))
    return BlendScorer(members, weights, offset)
