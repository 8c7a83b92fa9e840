"""Losses that sentence-transformers lacks, as sentence-transformers losses.

Those of embeddings use D = ‖u - v‖² between vectors of unit length, which is 2 - 2 cos(u, v), in [0, 4], so that they
train the cosine that scores a pair. Each takes two columns of questions. Labels are (n,) in [0, 1], or, for triplets,
(n, 2) keys of `dupq.training.samplers.duplicate_components`: two questions are duplicates where their keys are equal.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.losses.merged_forward import embed_columns
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss
from sentence_transformers.sentence_transformer.losses import BatchSemiHardTripletLoss, CoSENTLoss
from torch import Tensor, nn
from torch.nn import functional


class UnorderedBinaryCrossEntropyLoss(BinaryCrossEntropyLoss):
    """Binary cross-entropy of a cross-encoder over pairs without an order.

    A fair coin swaps the two questions each time a pair is used, so that the network learns both orders at the cost of
    one. The coin is torch's generator, which checkpoints restore, so a resumed run draws the same swaps.

    Inputs: two columns of n texts; labels (n,) in [0, 1]. Model: a `CrossEncoder` with one output.
    """

    def forward(
        self, inputs: list[list[str]], labels: Tensor, prompt: str | None = None, task: str | None = None
    ) -> Tensor:
        swap = (torch.rand(len(inputs[0])) < 0.5).tolist()
        left = [b if coin else a for a, b, coin in zip(*inputs, swap, strict=True)]
        right = [a if coin else b for a, b, coin in zip(*inputs, swap, strict=True)]
        return super().forward([left, right], labels, prompt=prompt, task=task)


class GapCoSENTLoss(CoSENTLoss):
    """CoSENT with each pair of examples weighted by the difference between their labels.

    log(1 + Σ (l_i - l_j) exp(scale (cos_j - cos_i))) over all i, j of a batch with l_i > l_j. With labels 0 and 1 it is
    CoSENT. With soft labels, CoSENT orders 0.001 and 0.002 as strictly as 0.1 and 0.9, although a teacher's
    probabilities rank the easiest pairs poorly.

    Labels: (n,) in [0, 1]. Memory: n². Sources: Huang et al. 2024; for the weights Cortes, Mohri & Rastogi 2007.
    """

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        cosines = self.similarity_fct(embeddings[0], embeddings[1])
        # In float32, although the encoder may run in bfloat16.
        scores = self.scale * cosines.to(torch.promote_types(cosines.dtype, torch.float32))
        labels = labels.reshape(-1).to(scores.dtype)
        gaps = (labels.unsqueeze(1) - labels.unsqueeze(0)).clamp(min=0)
        # The logarithm of a zero gap is -inf, which removes the term from the sum.
        costs = gaps.log() + scores.unsqueeze(0) - scores.unsqueeze(1)
        return torch.cat([scores.new_zeros(1), costs.flatten()]).logsumexp(0)


class EmbeddingLoss(nn.Module):
    """Base class of a loss over the embeddings of two columns.

    Args:
        model: The bi-encoder.
        **config: Parameters of the loss, which become attributes.
    """

    margin: float
    scale: float

    def __init__(self, model: SentenceTransformer, **config: float) -> None:
        super().__init__()
        self.model = model
        self._config = config
        for name, value in config.items():
            setattr(self, name, value)

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor) -> Tensor:
        embeddings = embed_columns(self.model, list(sentence_features))
        # In float32, although the encoder may run in bfloat16, which cannot represent distances below 0.01.
        with torch.autocast(embeddings[0].device.type, enabled=False):
            return self.compute_loss_from_embeddings([vectors.float() for vectors in embeddings], labels)

    @abstractmethod
    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        """Return the loss, a scalar, of two columns of embeddings (n, d)."""

    def get_config_dict(self) -> dict[str, Any]:
        return self._config


class LinearHingeLoss(EmbeddingLoss):
    """Linear hinge loss: the mean of l · D + (1 - l) · max(0, margin - D) over pairs.

    Unlike the squared hinge it pulls as hard on a pair that is nearly right as on a wrong one: prefer it where few
    labels are wrong. With a margin of 0 nothing pushes, and all embeddings collapse.

    Labels: (n,) in [0, 1]. Source: the contrastive loss of Vo & Hays 2016.
    """

    def __init__(self, model: SentenceTransformer, margin: float = 1.0) -> None:
        super().__init__(model, margin=margin)

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        distances = pair_distances(*embeddings)
        labels = labels.to(distances.dtype)
        return (labels * distances + (1 - labels) * (self.margin - distances).relu()).mean()


class LogisticDistanceLoss(EmbeddingLoss):
    """Distance-based logistic loss: the mean log loss of p = (1 + e^-m) / (1 + e^(s·D - m)).

    p is 1 at D = 0 and falls to 0 around D = m / s. No margin cuts a pair off; a confident one only counts less.

    Args:
        model: The bi-encoder.
        margin: m.
        scale: s; without it p could not fall to 0, because D is at most 4.

    Labels: (n,) in [0, 1]. Source: Vo & Hays 2016.
    """

    MIN_DISTANCE = 1e-6
    """Minimum of s·D, because a distinct pair at D = 0 would have an infinite loss."""

    def __init__(self, model: SentenceTransformer, margin: float = 5.0, scale: float = 10.0) -> None:
        super().__init__(model, margin=margin, scale=scale)

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        distances = (self.scale * pair_distances(*embeddings)).clamp(min=self.MIN_DISTANCE)
        labels = labels.to(distances.dtype)
        margin = distances.new_tensor(self.margin)
        tail = functional.softplus(distances - margin)
        log_p = functional.softplus(-margin) - tail
        # 1 - p = (e^(sD) - 1) e^-m / (1 + e^(sD - m)), in a form that does not overflow.
        log_not_p = distances + torch.log(-torch.expm1(-distances)) - margin - tail
        return -(labels * log_p + (1 - labels) * log_not_p).mean()


class HardTripletLoss(EmbeddingLoss):
    """Batch-hard triplets: the mean of max(0, D(anchor, duplicate) - D(anchor, other) + margin).

    Each anchor is taken with its farthest duplicate and its nearest other question. Distinct pairs of the batch are its
    hard negatives. Unlike `BatchHardTripletLoss` of sentence-transformers, an anchor without a duplicate is skipped.

    Labels: (n, 2) keys. Sources: Hoffer & Ailon 2015; Hermans, Beyer & Leibe 2017.
    """

    def __init__(self, model: SentenceTransformer, margin: float = 0.3) -> None:
        super().__init__(model, margin=margin)

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        distances, duplicate, other = _batch(embeddings, labels)
        complete = duplicate.any(1) & other.any(1)
        farthest = distances.masked_fill(~duplicate, -torch.inf).max(1).values[complete]
        nearest = distances.masked_fill(~other, torch.inf).min(1).values[complete]
        return _mean((farthest - nearest + self.margin).relu())


class SemiHardTripletLoss(EmbeddingLoss):
    """Batch-semi-hard triplets, as `BatchSemiHardTripletLoss` of sentence-transformers.

    Each anchor is taken with each duplicate, and with the nearest other question beyond it, or the farthest of all.
    Safer than `HardTripletLoss` where labels are wrong.

    Labels: (n, 2) keys. Source: Schroff, Kalenichenko & Philbin 2015.
    """

    def __init__(self, model: SentenceTransformer, margin: float = 0.3) -> None:
        super().__init__(model, margin=margin)

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        vectors, keys = torch.cat(embeddings), labels.T.reshape(-1)
        if bool((keys == keys[0]).all()):  # no other question; the stock loss would compare with a distance of 0
            return 0.0 * vectors.sum()
        stock = BatchSemiHardTripletLoss(self.model, all_distances, self.margin)
        loss: Tensor = stock.compute_loss_from_embeddings([vectors], keys)
        return loss


class LogisticTripletLoss(EmbeddingLoss):
    """Distance-based logistic loss: the mean of log(1 + e^(s (D(anchor, duplicate) - D(anchor, other)))).

    It averages over all triplets of the batch: prefer it to hinged triplets where batches are large.

    Labels: (n, 2) keys. Source: Vo & Hays 2016.
    """

    def __init__(self, model: SentenceTransformer, scale: float = 10.0) -> None:
        super().__init__(model, scale=scale)

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        distances, duplicate, other = _batch(embeddings, labels)
        anchors, duplicates = duplicate.nonzero(as_tuple=True)
        gaps = (distances[anchors, duplicates].unsqueeze(1) - distances[anchors])[other[anchors]]
        return _mean(functional.softplus(self.scale * gaps))


class StructurePreservingLoss(EmbeddingLoss):
    """Two-branch ranking with structure-preserving constraints; a neighbourhood is a component of duplicates.

    With the left questions x and the right questions y of a batch, let [x, y, y'] be the mean of
    max(0, margin + D(x, y) - D(x, y')) over the triplets with a positive cost, y in x's neighbourhood and y' not.
    The loss is [x, y, y'] + [y, x, x'] + weight · ([x, x', x''] + [y, y', y'']).

    The last two terms need batches with several questions of a neighbourhood, as `NeighbourhoodBatchSampler` makes
    them. Prefer it where duplicate groups are large.

    Labels: (n, 2) keys. Source: Wang, Li & Lazebnik 2016.
    """

    weight: float

    def __init__(self, model: SentenceTransformer, margin: float = 0.3, weight: float = 0.2) -> None:
        super().__init__(model, margin=margin, weight=weight)

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        n = len(labels)
        distances = all_distances(torch.cat(embeddings))
        same = _same(labels.T.reshape(-1))
        left, right = slice(0, n), slice(n, 2 * n)
        across = self._ranking(distances[left, right], same[left, right])
        across = across + self._ranking(distances[right, left], same[right, left])
        within = self._ranking(distances[left, left], same[left, left])
        within = within + self._ranking(distances[right, right], same[right, right])
        return across + self.weight * within

    def _ranking(self, distances: Tensor, same: Tensor) -> Tensor:
        costs = (self.margin + distances.unsqueeze(2) - distances.unsqueeze(1)).relu()
        costs = costs * (same.unsqueeze(2) & ~same.unsqueeze(1))
        return costs.sum() / (costs > 0).sum().clamp(min=1)


def pair_distances(left: Tensor, right: Tensor) -> Tensor:
    """Return ‖u - v‖² of n pairs of vectors, scaled to unit length: (n,) in [0, 4]."""
    return (functional.normalize(left, dim=1) - functional.normalize(right, dim=1)).square().sum(1)


def all_distances(vectors: Tensor) -> Tensor:
    """Return ‖u - v‖² between all of n vectors, scaled to unit length: (n, n) in [0, 4]."""
    unit = functional.normalize(vectors, dim=1)
    return (2 - 2 * unit @ unit.T).clamp(min=0)


def _batch(embeddings: list[Tensor], labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return distances between all 2n questions, and where two are duplicates or distinct: (2n, 2n) each."""
    same = _same(labels.T.reshape(-1))
    itself = torch.eye(len(same), dtype=torch.bool, device=same.device)
    return all_distances(torch.cat(embeddings)), same & ~itself, ~same


def _same(keys: Tensor) -> Tensor:
    return keys.unsqueeze(0) == keys.unsqueeze(1)


def _mean(costs: Tensor) -> Tensor:
    # 0 with a gradient of 0 for a batch without triplets, where mean() is undefined.
    return costs.sum() / max(1, len(costs))
