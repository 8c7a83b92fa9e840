"""Comparers of two sentence vectors: a question can be embedded once and compared often."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from dupq.models.comparers.pairs import VectorComparer


class Hybrid(VectorComparer):
    """Siamese-classification hybrid: encoded apart, merged by features that have no order, then classified.

    score = MLP([u + v, |u - v|, u ∘ v]), with u, v (n, dimensions).

    Source: Vo & Hays 2016, whose merge of two image maps is made symmetric here. Prefer it where many pairs of few
    questions are scored: more accurate than a distance, and still one encoding a question.
    """

    def __init__(self, dimensions: int, hidden: int = 128) -> None:
        super().__init__(dimensions=dimensions, hidden=hidden)
        self.dimensions, self.hidden = dimensions, hidden
        self.classify = nn.Sequential(nn.Linear(3 * dimensions, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def compare_vectors(self, left: Tensor, right: Tensor) -> Tensor:
        scores: Tensor = self.classify(torch.cat([left + right, (left - right).abs(), left * right], dim=1))
        return scores.squeeze(1)


class SimilarityNetwork(VectorComparer):
    """Similarity network: the element-wise product of two projected unit vectors, then a regression.

    score = MLP(f(u) ∘ f(v)), f two layers and a scaling to unit length, shared by both questions.

    Source: Wang, Li & Lazebnik 2017 (two-branch networks). Prefer it to `Hybrid` where few rows are labelled: it has no
    access to the difference, so it has less to overfit, and starts near a cosine.
    """

    def __init__(self, dimensions: int, hidden: int = 128) -> None:
        super().__init__(dimensions=dimensions, hidden=hidden)
        self.dimensions, self.hidden = dimensions, hidden
        self.project = nn.Sequential(nn.Linear(dimensions, hidden), nn.ReLU(), nn.Linear(hidden, hidden))
        self.regress = nn.Sequential(nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def compare_vectors(self, left: Tensor, right: Tensor) -> Tensor:
        products = self._branch(left) * self._branch(right)
        scores: Tensor = self.regress(products * self.hidden)  # entries of about unit size again
        return scores.squeeze(1)

    def _branch(self, vectors: Tensor) -> Tensor:
        return functional.normalize(self.project(vectors), dim=1)


class ConditionalSimilarity(VectorComparer):
    """Conditional similarity: a learned mask over the dimensions for each kind of question, chosen by the pair.

    score = Σ_c w_c (b_c - s · mean((relu(m_c) ∘ (u - v))²)), with w = softmax(W [u + v, u ∘ v]) over the conditions.

    Source: Veit, Belongie & Karaletsos 2017 for the masks, whose condition is given; Tan et al. 2019 for weights that
    the pair itself chooses. Prefer it where a forum mixes kinds of question that agree in different respects, and to
    see which: the weights tell.

    Args:
        dimensions: Of a token embedding.
        conditions: Kinds of question.
    """

    def __init__(self, dimensions: int, conditions: int = 5) -> None:
        super().__init__(dimensions=dimensions, conditions=conditions)
        self.dimensions, self.conditions = dimensions, conditions
        self.masks = nn.Parameter(torch.empty(conditions, dimensions).normal_(0.9, 0.7))  # as in the source
        self.thresholds = nn.Parameter(torch.full((conditions,), 2.0))
        self.log_slope = nn.Parameter(torch.tensor(1.5))
        self.choose = nn.Linear(2 * dimensions, conditions)

    def compare_vectors(self, left: Tensor, right: Tensor) -> Tensor:
        weights = self.choose(torch.cat([left + right, left * right], dim=1)).softmax(1)
        squares = (left - right).square() / self.dimensions
        distances = squares @ self.masks.relu().square().T
        scores: Tensor = (weights * (self.thresholds - self.log_slope.exp() * distances)).sum(1)
        return scores


class ResidualPairs(VectorComparer):
    """Skip-residual pairwise network: a similarity vector learned in steps, each of which adds to what it was given.

    z₀ = A [|u - v|, u ∘ v]; z_{k+1} = z_k + B_k relu(C_k norm(z_k)); score = w · [z₀, …, z_K].

    Source: Mehrotra & Dukkipati 2017. Its blocks begin as nothing, so that it starts as a linear comparison and becomes
    as deep as the data ask for. Prefer it to `Hybrid` with many rows.

    Args:
        dimensions: Of a token embedding.
        hidden: Of the similarity vector.
        blocks: K.
    """

    def __init__(self, dimensions: int, hidden: int = 128, blocks: int = 3) -> None:
        super().__init__(dimensions=dimensions, hidden=hidden, blocks=blocks)
        self.dimensions, self.hidden, self.blocks = dimensions, hidden, blocks
        self.merge = nn.Linear(2 * dimensions, hidden)
        self.steps = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, hidden))
            for _ in range(blocks)
        )
        self.score = nn.Linear(hidden * (blocks + 1), 1)
        for name, parameter in self.steps.named_parameters():
            if name.split(".")[1] == "3":
                nn.init.zeros_(parameter)

    def compare_vectors(self, left: Tensor, right: Tensor) -> Tensor:
        states = [self.merge(torch.cat([(left - right).abs(), left * right], dim=1))]
        for step in self.steps:
            states.append(states[-1] + step(states[-1]))
        scores: Tensor = self.score(torch.cat(states, dim=1))
        return scores.squeeze(1)


class LearnedMetric(VectorComparer):
    """A Mahalanobis distance over frozen embeddings: score = b - s · ‖L (u - v)‖², u and v of unit length.

    L, b and s come from `dupq.training.metric_learning` in closed form, and no gradient changes them. Prefer it where
    there is no time to train: it fits in seconds.

    Source: Mahalanobis 1936; which L, see there.

    Args:
        dimensions: Of a token embedding.
        rank: Rows of L.
    """

    def __init__(self, dimensions: int, rank: int) -> None:
        super().__init__(dimensions=dimensions, rank=rank)
        self.dimensions, self.rank = dimensions, rank
        self.root = nn.Parameter(torch.eye(rank, dimensions), requires_grad=False)
        self.slope = nn.Parameter(torch.tensor(1.0), requires_grad=False)
        self.offset = nn.Parameter(torch.tensor(0.0), requires_grad=False)

    def compare_vectors(self, left: Tensor, right: Tensor) -> Tensor:
        differences = (left - right) / self.dimensions**0.5
        return self.offset - self.slope * functional.linear(differences, self.root).square().sum(1)
