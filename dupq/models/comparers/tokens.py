"""Comparers that look at the tokens of both questions: dearer than a comparison of vectors, and finer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from dupq.models.comparers.pairs import Comparer


class RecurrentComparator(Comparer):
    """Attentive recurrent comparator: a recurrent controller that glimpses at the two questions in turn.

    At step t it looks at one question, on even steps the first, on odd ones the second: glimpse_t = Σ_i a_i x_i with
    a = softmax(x · Q h_t / √hidden), and h_{t+1} = LSTM(glimpse_t, h_t). score = w · h_T, averaged over both orders.

    Source: Shyam, Gupta & Dukkipati 2017. Prefer it where one word decides ("north" for "south") and the questions are
    short; its steps follow each other, so it is slow.

    Args:
        dimensions: Of a token embedding.
        hidden: Of the controller.
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
        return (self._glimpse(first, second) + self._glimpse(second, first)) / 2

    def _glimpse(self, first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> Tensor:
        state = memory = first[0].new_zeros(len(first[0]), self.hidden)
        for step in range(self.glimpses):
            tokens, mask = (first, second)[step % 2]
            fit = (tokens @ self.look(state).unsqueeze(2)).squeeze(2) / self.hidden**0.5
            attention = fit.masked_fill(~mask, -torch.inf).softmax(1)
            state, memory = self.controller((attention.unsqueeze(1) @ tokens).squeeze(1), (state, memory))
        scores: Tensor = self.score(state)
        return scores.squeeze(1)


class NeighbourhoodDifferences(Comparer):
    """Cross-input neighbourhood differences: each token less the tokens about its place in the other question.

    D_i = x_i - (y_{i-w}, …, y_{i+w}), summarised by a layer, then by a convolution over i; the mean and the maximum
    over i, summed over both directions, are classified.

    Source: Ahmed, Jones & Marks 2015. Prefer it for questions that differ in a word and keep their order; a paraphrase
    that moves words about leaves the neighbourhood.

    Args:
        dimensions: Of a token embedding.
        hidden: Of the projected tokens.
        window: w; 2 sees five tokens.
    """

    def __init__(self, dimensions: int, hidden: int = 64, window: int = 2) -> None:
        super().__init__(dimensions=dimensions, hidden=hidden, window=window)
        self.dimensions, self.hidden, self.window = dimensions, hidden, window
        self.project = nn.Linear(dimensions, hidden)
        self.summarise = nn.Linear(hidden * (2 * window + 1), hidden)
        self.across = nn.Conv1d(hidden, hidden, 3, padding=1)
        self.classify = nn.Sequential(nn.Linear(2 * hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def compare(self, left: Tensor, right: Tensor, left_mask: Tensor, right_mask: Tensor) -> Tensor:
        # Beyond a question's end its tokens are 0, as the source pads its maps.
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


class NormalisedCorrelation(Comparer):
    """Normalised-correlation matching: how well each token, and each three in a row, is found anywhere in the other.

    c_ij = the Pearson correlation of projected token i of one and j of the other, likewise of windows of three. The
    `best` largest c_ij of each i are classified, weighted by how much token i matters, and summed over both directions.

    Source: Subramaniam, Chatterjee & Mittal 2016; its search area is the whole other question, since words move. Prefer
    it where word order varies, and to `NeighbourhoodDifferences` nearly always.

    Args:
        dimensions: Of a token embedding.
        hidden: Of the projected tokens.
        best: Matches kept of each token.
    """

    def __init__(self, dimensions: int, hidden: int = 64, best: int = 3) -> None:
        super().__init__(dimensions=dimensions, hidden=hidden, best=best)
        self.dimensions, self.hidden, self.best = dimensions, hidden, best
        self.project = nn.Linear(dimensions, hidden)
        self.matter = nn.Linear(dimensions, 1)
        self.judge = nn.Sequential(nn.Linear(2 * best, hidden), nn.ReLU(), nn.Linear(hidden, hidden))
        self.score = nn.Linear(hidden, 1)

    def compare(self, left: Tensor, right: Tensor, left_mask: Tensor, right_mask: Tensor) -> Tensor:
        first, second = self._patches(left, left_mask), self._patches(right, right_mask)
        found = self._found(left, first, second, left_mask, right_mask)
        scores: Tensor = self.score(found + self._found(right, second, first, right_mask, left_mask))
        return scores.squeeze(1)

    def _patches(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Single tokens (n, tokens, hidden) and windows of three (n, tokens, 3·hidden), centred and of unit length."""
        projected = self.project(tokens) * mask.unsqueeze(2)
        windows = functional.pad(projected, (0, 0, 1, 1)).unfold(1, 3, 1).flatten(2)
        single, triple = (
            functional.normalize(patch - patch.mean(2, keepdim=True), dim=2) for patch in (projected, windows)
        )
        return single, triple

    def _found(
        self,
        tokens: Tensor,
        here: tuple[Tensor, Tensor],
        there: tuple[Tensor, Tensor],
        mask: Tensor,
        other_mask: Tensor,
    ) -> Tensor:
        matches = []
        for mine, theirs in zip(here, there, strict=True):
            correlation = (mine @ theirs.transpose(1, 2)).masked_fill(~other_mask.unsqueeze(1), -1)
            matches.append(functional.pad(correlation, (0, self.best), value=-1).topk(self.best, dim=2).values)
        weights = self.matter(tokens).squeeze(2).masked_fill(~mask, -torch.inf).softmax(1)
        judged: Tensor = self.judge(torch.cat(matches, dim=2))
        found: Tensor = weights.unsqueeze(1) @ judged
        return found.squeeze(1)
