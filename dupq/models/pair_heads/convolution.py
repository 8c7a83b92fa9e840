"""Convolutional pair heads (Hu et al. 2014) over the tokens of a shared encoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from dupq.models.pair_heads.pairs import PairHead


class ArcApart(PairHead):
    """ARC-I: a convolution over each question, then a classifier of the two results.

    s = max over places of conv₃(pool₂(conv₃(x))); score = MLP([s + t, |s - t|]).

    Source: Hu, Lu, Li & Chen 2014, with a symmetric merge instead of their concatenation. Prefer it for an encoder of
    plain word embeddings, to which it adds word order.

    Args:
        dimensions: Dimensions of a token embedding.
        hidden: Channels of the convolutions.
    """

    def __init__(self, dimensions: int, hidden: int = 128) -> None:
        super().__init__(dimensions=dimensions, hidden=hidden)
        self.dimensions, self.hidden = dimensions, hidden
        self.first = nn.Conv1d(dimensions, hidden, 3, padding=1)
        self.second = nn.Conv1d(hidden, hidden, 3, padding=1)
        self.classify = nn.Sequential(nn.Linear(2 * hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def compare(self, left: Tensor, right: Tensor, left_mask: Tensor, right_mask: Tensor) -> Tensor:
        first, second = self._sentence(left, left_mask), self._sentence(right, right_mask)
        scores: Tensor = self.classify(torch.cat([first + second, (first - second).abs()], dim=1))
        return scores.squeeze(1)

    def _sentence(self, tokens: Tensor, mask: Tensor) -> Tensor:
        # Padding is 0 at each stage (the gate of the source), so that it adds nothing.
        place = mask.unsqueeze(1).float()
        maps = self.first(tokens.transpose(1, 2) * place).relu() * place
        pooled = functional.max_pool1d(maps, 2, ceil_mode=True)
        second: Tensor = self.second(pooled).relu() * functional.max_pool1d(place, 2, ceil_mode=True)
        return second.amax(2)


class ArcMerged(PairHead):
    """ARC-II: a convolution over a map of all segments by all segments.

    z_ij = relu(A x_{i-1…i+1} + B y_{j-1…j+1}), then pooling, a 3 x 3 convolution, and the maximum over places; the
    score is averaged over both orders.

    Source: Hu, Lu, Li & Chen 2014. Its cost grows with the product of the lengths.

    Args:
        dimensions: Dimensions of a token embedding.
        hidden: Channels of the first convolution.
    """

    def __init__(self, dimensions: int, hidden: int = 32) -> None:
        super().__init__(dimensions=dimensions, hidden=hidden)
        self.dimensions, self.hidden = dimensions, hidden
        self.one = nn.Conv1d(dimensions, hidden, 3, padding=1)
        self.other = nn.Conv1d(dimensions, hidden, 3, padding=1)
        self.second = nn.Conv2d(hidden, 2 * hidden, 3, padding=1)
        self.classify = nn.Sequential(nn.Linear(2 * hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def compare(self, left: Tensor, right: Tensor, left_mask: Tensor, right_mask: Tensor) -> Tensor:
        first = left.transpose(1, 2) * left_mask.unsqueeze(1)
        second = right.transpose(1, 2) * right_mask.unsqueeze(1)
        place = (left_mask.unsqueeze(2) & right_mask.unsqueeze(1)).unsqueeze(1).float()
        return (self._one_order(first, second, place) + self._one_order(second, first, place.transpose(2, 3))) / 2

    def _one_order(self, first: Tensor, second: Tensor, place: Tensor) -> Tensor:
        maps = (self.one(first).unsqueeze(3) + self.other(second).unsqueeze(2)).relu() * place
        pooled = functional.max_pool2d(maps, 2, ceil_mode=True)
        maps = self.second(pooled).relu() * functional.max_pool2d(place, 2, ceil_mode=True)
        scores: Tensor = self.classify(maps.amax((2, 3)))
        return scores.squeeze(1)
