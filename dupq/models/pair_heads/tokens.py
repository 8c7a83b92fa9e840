"""Pair heads on the tokens of both questions.

They are slower and finer than those on vectors.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from dupq.models.pair_heads.pairs import PairHead


class RecurrentComparator(PairHead):
    """Attentive recurrent comparator: a controller that attends to both in turn.

    Step t attends to the first question if t is even, to the second if it is odd: glimpse_t = Σ_i a_i x_i with
    a = softmax(x · Q h_t / √hidden), and h_{t+1} = LSTM(glimpse_t, h_t). score = w · h_T, averaged over both orders.

    Source: Shyam, Gupta & Dukkipati 2017. Prefer it for short questions where one word decides ("north" for "south");
    its steps are sequential, so it is slow.

    Args:
        dimensions: Dimensions of a token embedding.
        hidden: Size of the controller's state.
        glimpses: T, half of them at each question.
    """

    def __init__(self, dimensions: int, hidden: int = 128, glimpses: int = 8) -> None:
        super().__init__(dimensions=dimensions, hidden=hidden, glimpses=glimpses)
        self.dimensions, self.hidden, self.glimpses = dimensions, hidden, glimpses
        self.project = nn.Linear(dimensions, hidden)
        self.look = nn.Linear(hidden, hidden)
        self.controller = nn.LSTMCell(hidden, hidden)
        self.score = nn.Linear(hidden, 1)

    def compare(self, left: Tensor, right: Tensor, left_mask: Tensor, right_mask: Tensor) -> Tensor:
        first, second = (self.project(left), left_mask), (self.project(right), right_mask)
        return (self._one_order(first, second) + self._one_order(second, first)) / 2

    def _one_order(self, first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> Tensor:
        state = memory = first[0].new_zeros(len(first[0]), self.hidden)
        for step in range(self.glimpses):
            tokens, mask = (first, second)[step % 2]
            weights = (tokens @ self.look(state).unsqueeze(2)).squeeze(2) / self.hidden**0.5
            attention = weights.masked_fill(~mask, -torch.inf).softmax(1)
            state, memory = self.controller((attention.unsqueeze(1) @ tokens).squeeze(1), (state, memory))
        scores: Tensor = self.score(state)
        return scores.squeeze(1)


class NeighbourhoodDifferences(PairHead):
    """Cross-input neighbourhood differences: each token minus its counterparts.

    D_i = x_i - (y_{i-w}, …, y_{i+w}), the tokens around position i of the other question, then a layer and a
    convolution over i; a classifier takes the mean and the maximum over i, summed over both directions.

    Source: Ahmed, Jones & Marks 2015. Prefer it for questions that differ in a word and keep their order; a paraphrase
    may move words out of the neighbourhood.

    Args:
        dimensions: Dimensions of a token embedding.
        hidden: Dimensions of a projected token.
        window: w; 2 covers five tokens.
    """

    def __init__(self, dimensions: int, hidden: int = 64, window: int = 2) -> None:
        super().__init__(dimensions=dimensions, hidden=hidden, window=window)
        self.dimensions, self.hidden, self.window = dimensions, hidden, window
        self.project = nn.Linear(dimensions, hidden)
        self.summarise = nn.Linear(hidden * (2 * window + 1), hidden)
        self.across = nn.Conv1d(hidden, hidden, 3, padding=1)
        self.classify = nn.Sequential(nn.Linear(2 * hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def compare(self, left: Tensor, right: Tensor, left_mask: Tensor, right_mask: Tensor) -> Tensor:
        # Tokens beyond the end are 0, as in the source.
        first = self.project(left) * left_mask.unsqueeze(2)
        second = self.project(right) * right_mask.unsqueeze(2)
        merged = self._differences(first, second, left_mask) + self._differences(second, first, right_mask)
        scores: Tensor = self.classify(merged)
        return scores.squeeze(1)

    def _differences(self, here: Tensor, there: Tensor, mask: Tensor) -> Tensor:
        about = functional.pad(there, (0, 0, self.window, self.window)).unfold(1, 2 * self.window + 1, 1)
        patches = self.summarise((here.unsqueeze(3) - about).flatten(2)).relu() * mask.unsqueeze(2)
        across = self.across(patches.transpose(1, 2)).relu() * mask.unsqueeze(1)
        return torch.cat([across.sum(2) / mask.sum(1, keepdim=True).clamp(min=1), across.amax(2)], dim=1)


class NormalisedCorrelation(PairHead):
    """Normalised-correlation matching: the best matches of each token.

    c_ij is the Pearson correlation of projected token i of one question and j of the other, likewise of windows of
    three. A layer takes the `best` largest c_ij of each i; its output is weighted by a learned importance of token i
    and summed over both directions.

    Source: Subramaniam, Chatterjee & Mittal 2016, with the whole other question as the search area, because words move.
    Prefer it where word order varies.

    Args:
        dimensions: Dimensions of a token embedding.
        hidden: Dimensions of a projected token.
        best: Number of matches kept of each token.
    """

    def __init__(self, dimensions: int, hidden: int = 64, best: int = 3) -> None:
        super().__init__(dimensions=dimensions, hidden=hidden, best=best)
        self.dimensions, self.hidden, self.best = dimensions, hidden, best
        self.project = nn.Linear(dimensions, hidden)
        self.matter = nn.Linear(dimensions, 1, bias=False)
        self.judge = nn.Sequential(nn.Linear(2 * best, hidden), nn.ReLU(), nn.Linear(hidden, hidden))
        self.score = nn.Linear(hidden, 1)

    def compare(self, left: Tensor, right: Tensor, left_mask: Tensor, right_mask: Tensor) -> Tensor:
        first, second = self._patches(left, left_mask), self._patches(right, right_mask)
        matched = self._match(left, first, second, left_mask, right_mask)
        scores: Tensor = self.score(matched + self._match(right, second, first, right_mask, left_mask))
        return scores.squeeze(1)

    def _patches(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return centred unit vectors of tokens and of windows of three.

        They are (n, tokens, hidden) and (n, tokens, 3·hidden).
        """
        projected = self.project(tokens) * mask.unsqueeze(2)
        windows = functional.pad(projected, (0, 0, 1, 1)).unfold(1, 3, 1).flatten(2)
        single, triple = (
            functional.normalize(patch - patch.mean(2, keepdim=True), dim=2) for patch in (projected, windows)
        )
        return single, triple

    def _match(
        self,
        tokens: Tensor,
        own_patches: tuple[Tensor, Tensor],
        other_patches: tuple[Tensor, Tensor],
        mask: Tensor,
        other_mask: Tensor,
    ) -> Tensor:
        matches = []
        for own, other in zip(own_patches, other_patches, strict=True):
            correlation = (own @ other.transpose(1, 2)).masked_fill(~other_mask.unsqueeze(1), -1)
            matches.append(functional.pad(correlation, (0, self.best), value=-1).topk(self.best, dim=2).values)
        weights = self.matter(tokens).squeeze(2).masked_fill(~mask, -torch.inf).softmax(1)
        compared: Tensor = self.judge(torch.cat(matches, dim=2))
        summed: Tensor = weights.unsqueeze(1) @ compared
        return summed.squeeze(1)
