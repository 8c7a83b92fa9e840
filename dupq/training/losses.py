"""The losses that sentence-transformers lacks, as sentence-transformers losses.

Those of embeddings measure D = ‖u - v‖² between vectors scaled to unit length, which is 2 - 2 cos(u, v), in [0, 4]:
what they teach is then in the cosine that scores a pair. Each takes two columns of questions.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, Literal

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.losses.merged_forward import embed_columns
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss
from sentence_transformers.sentence_transformer.losses import CoSENTLoss
from torch import Tensor, nn
from torch.nn import functional

Mining = Literal["hard", "semi-hard", "all"]


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


class GapCoSENTLoss(CoSENTLoss):
    """CoSENT whose orders count by how far the labels are apart.

    Over all pairs i, j of a batch with label l_i > l_j: log(1 + Σ (l_i - l_j) e^(scale (cos_j - cos_i))). Of labels 0
    and 1 it is CoSENT. Of a teacher's probabilities CoSENT asks for the order of 0.001 and 0.002 as strictly as for
    that of 0.1 and 0.9, and so for much that the teacher itself does not know.

    Labels: (n,) in [0, 1]. Memory: n². Sources: Huang et al. 2024; the weights, Cortes, Mohri & Rastogi 2007.
    """

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        cosines = self.similarity_fct(embeddings[0], embeddings[1])
        # In float32 where the encoder runs in bfloat16.
        scores = self.scale * cosines.to(torch.promote_types(cosines.dtype, torch.float32))
        labels = labels.reshape(-1).to(scores.dtype)
        gaps = (labels.unsqueeze(1) - labels.unsqueeze(0)).clamp(min=0)
        # A pair that is not above the other has the weight 0, whose logarithm takes it out of the sum.
        costs = gaps.log() + scores.unsqueeze(0) - scores.unsqueeze(1)
        return torch.cat([scores.new_zeros(1), costs.flatten()]).logsumexp(0)


class EmbeddingLoss(nn.Module):
    """A loss over the embeddings of two columns; a subclass gives `compute_loss_from_embeddings`."""

    def __init__(self, model: SentenceTransformer, margin: float) -> None:
        super().__init__()
        self.model = model
        self.margin = margin

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor) -> Tensor:
        embeddings = embed_columns(self.model, list(sentence_features))
        # In float32 even where the encoder runs in bfloat16, which knows no distance below 0.01.
        with torch.autocast(embeddings[0].device.type, enabled=False):
            return self.compute_loss_from_embeddings([vectors.float() for vectors in embeddings], labels)

    @abstractmethod
    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        """Two times (n, d), and labels -> the loss, a number."""

    def get_config_dict(self) -> dict[str, Any]:
        return {"margin": self.margin}


class LinearHingeLoss(EmbeddingLoss):
    """Linear hinge: l · D + (1 - l) · max(0, margin - D), the mean over pairs.

    Unlike the squared hinge it pulls as hard on a pair that is nearly right as on one that is wrong: prefer it where
    few labels are wrong. With a margin of 0 nothing pushes, and all embeddings become one.

    Labels: (n,) in [0, 1]. Source: the contrastive loss as Vo & Hays 2016 write it.
    """

    def __init__(self, model: SentenceTransformer, margin: float = 1.0) -> None:
        super().__init__(model, margin)

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        distances = pair_distances(*embeddings)
        labels = labels.to(distances.dtype)
        return (labels * distances + (1 - labels) * (self.margin - distances).relu()).mean()


class LogisticDistanceLoss(EmbeddingLoss):
    """Distance-based logistic loss: log loss of p = (1 + e^-m) / (1 + e^(s·D - m)), the mean over pairs.

    p is 1 at no distance and falls to 0 about D = m / s. A pair counts the less the surer it is, so that no margin cuts
    anything off: prefer it to both hinges.

    Args:
        model: What embeds.
        margin: m.
        scale: s; on unit vectors D is at most 4, so without it p could not fall to 0.

    Labels: (n,) in [0, 1]. Source: Vo & Hays 2016.
    """

    NEAREST = 1e-6
    """s·D is never less: at no distance at all a distinct pair would cost infinitely much."""

    def __init__(self, model: SentenceTransformer, margin: float = 5.0, scale: float = 10.0) -> None:
        super().__init__(model, margin)
        self.scale = scale

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        distances = (self.scale * pair_distances(*embeddings)).clamp(min=self.NEAREST)
        labels = labels.to(distances.dtype)
        margin = distances.new_tensor(self.margin)
        tail = functional.softplus(distances - margin)
        same = functional.softplus(-margin) - tail
        # 1 - p = (e^(sD) - 1) e^-m / (1 + e^(sD - m)), written so that no power overflows.
        other = distances + torch.log(-torch.expm1(-distances)) - margin - tail
        return -(labels * same + (1 - labels) * other).mean()

    def get_config_dict(self) -> dict[str, Any]:
        return {"margin": self.margin, "scale": self.scale}


class MinedTripletLoss(EmbeddingLoss):
    """Triplets of a batch of pairs: max(0, D(anchor, duplicate) - D(anchor, other) + margin), the mean over triplets.

    Questions of one closure of known duplicates never make a negative: their keys tell. The pairs that are labelled
    distinct come in the same batch, and are its hard negatives. Prefer it where what matters is the nearest neighbours
    of a question, not one threshold for all; "semi-hard" is the safer with wrong labels.

    Args:
        model: What embeds.
        mining: "hard": each anchor with its farthest duplicate and its nearest other (Hermans 2017). "semi-hard": each
            anchor with each duplicate, and the nearest other that is farther than that, or the farthest of all where
            there is none (Schroff 2015). "all": every triplet.
        margin: Between the two distances.

    Labels: (n, 2) keys of the closures of the left and the right questions, as `dupq.training.sampling.closures` gives
    them. Source: Hoffer & Ailon 2015.
    """

    def __init__(self, model: SentenceTransformer, mining: Mining = "hard", margin: float = 0.3) -> None:
        super().__init__(model, margin)
        self.mining: Mining = mining

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        distances = all_distances(torch.cat(embeddings))
        anchor, positive, negative = triplets(distances.detach(), labels.T.reshape(-1), self.mining)
        return self._cost(distances[anchor, positive] - distances[anchor, negative])

    def _cost(self, gaps: Tensor) -> Tensor:
        # A batch without a triplet costs nothing, and its gradient is 0, not undefined.
        return (gaps + self.margin).relu().sum() / max(1, len(gaps))

    def get_config_dict(self) -> dict[str, Any]:
        return {"mining": self.mining, "margin": self.margin}


class LogisticTripletLoss(MinedTripletLoss):
    """Distance-based logistic loss of triplets: log(1 + e^(s (D(anchor, duplicate) - D(anchor, other)))), all of them.

    Prefer it to hinged triplets where batches are large: none is dropped, and the worst count most.

    Labels: as of `MinedTripletLoss`. Source: Vo & Hays 2016, who too take every triplet of the batch.
    """

    def __init__(self, model: SentenceTransformer, scale: float = 10.0) -> None:
        super().__init__(model, "all", 0.0)
        self.scale = scale

    def _cost(self, gaps: Tensor) -> Tensor:
        return functional.softplus(self.scale * gaps).sum() / max(1, len(gaps))

    def get_config_dict(self) -> dict[str, Any]:
        return {"scale": self.scale}


class StructurePreservingLoss(EmbeddingLoss):
    """Two-branch ranking with structure-preserving constraints; a neighbourhood is a closure of known duplicates.

    With x the left and y the right questions of a batch, [x, y, y', …] the mean of max(0, margin + D(x, y) - D(x, y'))
    over the triplets that cost anything, y of x's neighbourhood and y' of another:
    loss = [x, y, y'] + [y, x, x'] + weight · ([x, x', x''] + [y, y', y'']).

    The last two hold a neighbourhood together on either side; they need batches that hold several of its questions
    (`dupq.training.sampling.NeighbourhoodBatchSampler`). Prefer it where duplicate groups are large.

    Labels: (n, 2), as of `MinedTripletLoss`. Source: Wang, Li & Lazebnik 2016.
    """

    def __init__(self, model: SentenceTransformer, margin: float = 0.3, weight: float = 0.2) -> None:
        super().__init__(model, margin)
        self.weight = weight

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

    def get_config_dict(self) -> dict[str, Any]:
        return {"margin": self.margin, "weight": self.weight}


def pair_distances(left: Tensor, right: Tensor) -> Tensor:
    """‖u - v‖² of n pairs of vectors scaled to unit length: (n,), each in [0, 4]."""
    return (functional.normalize(left, dim=1) - functional.normalize(right, dim=1)).square().sum(1)


def all_distances(vectors: Tensor) -> Tensor:
    """‖u - v‖² of every two of n vectors scaled to unit length: (n, n)."""
    unit = functional.normalize(vectors, dim=1)
    return (2 - 2 * unit @ unit.T).clamp(min=0)


def triplets(distances: Tensor, keys: Tensor, mining: Mining) -> tuple[Tensor, Tensor, Tensor]:
    """The triplets of n questions, as three index tensors of one length: anchors, duplicates, others.

    Args:
        distances: (n, n).
        keys: (n,); questions of one key are duplicates, and never others to each other.
        mining: See `MinedTripletLoss`.
    """
    same = _same(keys)
    positives = same & ~torch.eye(len(keys), dtype=torch.bool, device=keys.device)
    whole = positives.any(1) & ~same.all(1)
    others = distances.masked_fill(same, torch.inf)
    if mining == "hard":
        farthest = distances.masked_fill(~positives, -torch.inf).argmax(1)
        anchors = whole.nonzero().squeeze(1)
        return anchors, farthest[anchors], others.argmin(1)[anchors]
    anchors, duplicates = (positives & whole.unsqueeze(1)).nonzero(as_tuple=True)
    if mining == "semi-hard":
        beyond = others[anchors].masked_fill(others[anchors] <= distances[anchors, duplicates].unsqueeze(1), torch.inf)
        last = distances.masked_fill(same, -torch.inf).argmax(1)[anchors]
        return anchors, duplicates, torch.where(beyond.isfinite().any(1), beyond.argmin(1), last)
    rows, negatives = (~same[anchors]).nonzero(as_tuple=True)
    return anchors[rows], duplicates[rows], negatives


def _same(keys: Tensor) -> Tensor:
    return keys.unsqueeze(0) == keys.unsqueeze(1)
