"""Pair heads of two streams (Zagoruyko & Komodakis 2015).

The streams read the tokens of a shared encoder.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from dupq.models.pair_heads.pairs import PairHead


class PseudoSiamese(PairHead):
    """Pseudo-Siamese network: two branches of one form that share no weights.

    score = (MLP([f(x), g(y)]) + MLP([f(y), g(x)])) / 2, with f and g two convolutions over three tokens each and the
    maximum over places, (n, tokens, dimensions) to (n, hidden).

    Source: Zagoruyko & Komodakis 2015. Adapted for text: their branches begin at the pixels; here the shared encoder is
    the lower part of both. Their score depends on which patch enters which branch; here both assignments are averaged.

    Args:
        dimensions: Dimensions of a token embedding.
        hidden: Channels of the convolutions.
    """

    def __init__(self, dimensions: int, hidden: int = 64) -> None:
        super().__init__(dimensions=dimensions, hidden=hidden)
        self.dimensions, self.hidden = dimensions, hidden
        self.one, self.other = _Stream(dimensions, hidden), _Stream(dimensions, hidden)
        self.classify = nn.Sequential(nn.Linear(2 * hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def compare(self, left: Tensor, right: Tensor, left_mask: Tensor, right_mask: Tensor) -> Tensor:
        first, second = (left.transpose(1, 2), left_mask), (right.transpose(1, 2), right_mask)
        return (self._one_order(first, second) + self._one_order(second, first)) / 2

    def _one_order(self, first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> Tensor:
        scores: Tensor = self.classify(torch.cat([self.one(*first), self.other(*second)], dim=1))
        return scores.squeeze(1)


class TwoChannel(PairHead):
    """Two-channel network: both questions are the channels of one input.

    c_i = [P x_i, Σ_j a_ij P y_j] with a_i = softmax over j of P x_i · P y_j / √hidden, (n, tokens, 2·hidden).
    score = MLP([fine(c), coarse(pool₂(c))]), averaged over both orders; each stream is two convolutions over three
    places and the maximum over places.

    Source: Zagoruyko & Komodakis 2015 (2-channel, and its central-surround streams). Adapted for text: the patches of a
    pair are registered pixel by pixel, but words move, so that token i is stacked with its aligned counterpart (as in
    Parikh et al. 2016). Their second stream sees a wider surround at half the resolution; here it sees the means of two
    neighbours. Prefer it for pairs in which one word decides: the questions meet before any summary.

    Args:
        dimensions: Dimensions of a token embedding.
        hidden: Dimensions of a projected token, and channels of the convolutions.
    """

    def __init__(self, dimensions: int, hidden: int = 64) -> None:
        super().__init__(dimensions=dimensions, hidden=hidden)
        self.dimensions, self.hidden = dimensions, hidden
        self.project = nn.Linear(dimensions, hidden)
        self.fine, self.coarse = _Stream(2 * hidden, hidden), _Stream(2 * hidden, hidden)
        self.classify = nn.Sequential(nn.Linear(2 * hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def compare(self, left: Tensor, right: Tensor, left_mask: Tensor, right_mask: Tensor) -> Tensor:
        first, second = self.project(left), self.project(right)
        forth = self._one_order(first, second, left_mask, right_mask)
        return (forth + self._one_order(second, first, right_mask, left_mask)) / 2

    def _one_order(self, here: Tensor, there: Tensor, mask: Tensor, other_mask: Tensor) -> Tensor:
        alike = here @ there.transpose(1, 2) / self.hidden**0.5
        aligned = alike.masked_fill(~other_mask.unsqueeze(1), -torch.inf).softmax(2) @ there
        place = mask.unsqueeze(1).float()
        channels = torch.cat([here, aligned], dim=2).transpose(1, 2) * place
        # The mean is over the tokens of a window that are no padding.
        shares = functional.avg_pool1d(place, 2, ceil_mode=True)
        pooled = functional.avg_pool1d(channels, 2, ceil_mode=True) / shares.clamp(min=0.5)
        summary = torch.cat([self.fine(channels, mask), self.coarse(pooled, shares.squeeze(1) > 0)], dim=1)
        scores: Tensor = self.classify(summary)
        return scores.squeeze(1)


class _Stream(nn.Module):
    """Two convolutions over three places, and the maximum over places.

    The input is (n, channels, places), the output (n, hidden).
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(channels, hidden, 3, padding=1)
        self.second = nn.Conv1d(hidden, hidden, 3, padding=1)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        # Padding is 0 at each stage, so that it adds nothing.
        place = mask.unsqueeze(1).float()
        hidden = self.first(values * place).relu() * place
        summary: Tensor = (self.second(hidden).relu() * place).amax(2)
        return summary
