"""The losses that sentence-transformers lacks, as sentence-transformers losses."""

from __future__ import annotations

import torch
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss
from torch import Tensor


class UnorderedBinaryCrossEntropyLoss(BinaryCrossEntropyLoss):
    """Binary cross-entropy of a cross-encoder over pairs that have no order.

    Each time a pair is seen, a fair coin says which of its questions comes first. The network so learns both orders at
    the cost of one, and may then be run in one canonical order. The coin is torch's own generator, whose state the
    trainer's checkpoints hold, so a resumed run throws the same coins.

    Inputs: two columns of n texts, labels (n,) in [0, 1]. Model: a `CrossEncoder` with one output.
    """

    def forward(
        self, inputs: list[list[str]], labels: Tensor, prompt: str | None = None, task: str | None = None
    ) -> Tensor:
        swap = (torch.rand(len(inputs[0])) < 0.5).tolist()
        left = [b if coin else a for a, b, coin in zip(*inputs, swap, strict=True)]
        right = [a if coin else b for a, b, coin in zip(*inputs, swap, strict=True)]
        return super().forward([left, right], labels, prompt=prompt, task=task)
