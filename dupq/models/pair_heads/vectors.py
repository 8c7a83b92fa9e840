"""Pair heads on two sentence vectors.

Each question is encoded once for all its pairs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from dupq.models.pair_heads.pairs import VectorPairHead


class Hybrid(VectorPairHead):
    """Siamese-classification hybrid: a symmetric merge and a classifier.

    score = MLP([u + v, |u - v|, u ∘ v]), with u, v (n, dimensions).

    Source: Vo & Hays 2016, with a symmetric merge. Prefer it for many pairs of few questions: it is more accurate than
    a distance, and still needs one encoding a question.

    Args:
        dimensions: Dimensions of a token embedding.
        hidden: Size of the hidden layer.
    """

    def __init__(self, dimensions: int, hidden: int = 128) -> None:
        super().__init__(dimensions=dimensions, hidden=hidden)
        self.dimensions, self.hidden = dimensions, hidden
        self.classify = nn.Sequential(nn.Linear(3 * dimensions, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def compare_vectors(self, left: Tensor, right: Tensor) -> Tensor:
        scores: Tensor = self.classify(torch.cat([left + right, (left - right).abs(), left * right], dim=1))
        return scores.squeeze(1)


class SimilarityNetwork(VectorPairHead):
    """Similarity network: a regression on the product of two projected vectors.

    score = MLP(f(u) ∘ f(v)), with f two layers and a normalisation, shared by both questions.

    Source: Wang, Li & Lazebnik 2017 (two-branch networks). Prefer it to `Hybrid` with few labels: without the
    difference as a feature it overfits less, and it starts near a cosine.

    Args:
        dimensions: Dimensions of a token embedding.
        hidden: Size of the projection and of the hidden layer.
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


class ConditionalSimilarity(VectorPairHead):
    """Conditional similarity: a learned mask for each kind of question.

    score = Σ_c w_c (b_c - s · mean((relu(m_c) ∘ (u - v))²)), with w = softmax(W [u + v, u ∘ v]) over the conditions.

    Sources: Veit, Belongie & Karaletsos 2017 for the masks, with a given condition; Tan et al. 2019 for weights
    computed from the pair. Prefer it for a forum that mixes kinds of question that agree in different respects.

    Args:
        dimensions: Dimensions of a token embedding.
        conditions: Number of kinds of question.
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


class ResidualPairs(VectorPairHead):
    """Skip-residual pairwise network: a similarity vector and residual blocks.

    z₀ = A [|u - v|, u ∘ v]; z_{k+1} = z_k + B_k relu(C_k norm(z_k)); score = w · [z₀, …, z_K].

    Source: Mehrotra & Dukkipati 2017. Its blocks start at 0, so it starts as a linear comparison. Prefer it to `Hybrid`
    with many labels.

    Args:
        dimensions: Dimensions of a token embedding.
        hidden: Dimensions of the similarity vector.
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


class LearnedMetric(VectorPairHead):
    """Mahalanobis distance (1936) over frozen embeddings.

    score = b - s · ‖L (u - v)‖², with u, v of unit length.

    `dupq.training.metric_learning` fits L, b and s in closed form within seconds; gradients do not change them.

    Args:
        dimensions: Dimensions of a token embedding.
        rank: Number of rows of L.
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
