"""Distillation of one trunk with two heads.

The teachers are a cross-encoder and a bi-encoder at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from sentence_transformers import CrossEncoder
from torch import Tensor, nn
from torch.nn import functional

from dupq.models.pair_heads.pairs import masked_mean


@dataclass(frozen=True)
class TeacherTable:
    """Outputs of the teachers for n training pairs and their m distinct questions.

    Attributes:
        soft_labels: Targets of the binary cross-entropy, in [0, 1], (n,).
        logits: Logits of the cross-encoder, (n,).
        pooled: Vectors that its classifier reads, (n, d).
        questions: Rows of `vectors`, (n, 2): of the question of each pair that sorts first by code point, and of the
            other one.
        vectors: Embeddings of the bi-encoder, (m, e), rows of unit length.
    """

    soft_labels: Tensor
    logits: Tensor
    pooled: Tensor
    questions: Tensor
    vectors: Tensor


@dataclass(frozen=True)
class TermWeights:
    """Weights of the terms of `OneTrunkLoss`.

    Attributes:
        label: Binary cross-entropy of the score and the soft label.
        logit: Mean squared difference of the score and the teacher's logit.
        pooled: Mean squared difference of the pooled vector and the teacher's.
        cosine: 1 - cosine of the embedding and the teacher's.
        similarity: Mean squared difference of the cosines of all questions of a batch and the teacher's.
    """

    label: float = 1.0
    logit: float = 0.1
    pooled: float = 1.0
    cosine: float = 1.0
    similarity: float = 10.0


class OneTrunkLoss(nn.Module):
    """Distillation of both heads of a network of a `PairEncoder` and `JointLayers`.

    The embedding head is the mean of the trunk's token states, times `projection`, of unit length.

    Inputs: two columns of n texts; labels (n,): the rows of the pairs in the table. Sources: Hinton, Vinyals & Dean
    2015; for pooled vectors Sanh et al. 2019; for similarities Tung & Mori 2019.

    Args:
        model: The network.
        table: Outputs of the teachers.
        projection: Linear map of the embedding head, (e, d). It is not learned: the trunk adapts to it.
        weights: Weights of the terms.
    """

    def __init__(
        self, model: CrossEncoder, table: TeacherTable, projection: Tensor, weights: TermWeights | None = None
    ) -> None:
        super().__init__()
        self.model, self.table, self.weights = model, table, weights or TermWeights()
        self.projection = projection
        self.terms: dict[str, float] = {}

    def forward(
        self, inputs: Sequence[Sequence[str]], labels: Tensor, prompt: str | None = None, task: str | None = None
    ) -> Tensor:
        pairs = list(zip(*inputs, strict=True))
        features = self.model.preprocess(pairs, prompt=prompt, task=task)
        features = {name: value.to(self.model.device) for name, value in features.items() if torch.is_tensor(value)}
        outputs = self.model(features)
        with torch.autocast(self.model.device.type, enabled=False):
            return self.compare(outputs, labels.cpu().long())

    def compare(self, outputs: dict[str, Tensor], rows: Tensor) -> Tensor:
        """Return the loss of a network's outputs for rows of the table."""
        table, device = self.table, outputs["scores"].device
        scores, weights = outputs["scores"].flatten().float(), self.weights
        left, right = (table.vectors[table.questions[rows, side]] for side in (0, 1))
        taught = torch.cat([left, right]).float().to(device)
        vectors = embed(outputs["token_embeddings"].float(), outputs["attention_mask"], self.projection.to(device))
        labels, logits, pooled = (
            values[rows].float().to(device) for values in (table.soft_labels, table.logits, table.pooled)
        )
        terms = {
            "label": functional.binary_cross_entropy_with_logits(scores, labels),
            "logit": functional.mse_loss(scores, logits),
            "pooled": functional.mse_loss(outputs["pooled"], pooled),
            "cosine": 1 - (vectors * taught).sum(1).mean(),
            "similarity": functional.mse_loss(vectors @ vectors.T, taught @ taught.T),
        }
        self.terms = {name: float(term.detach()) for name, term in terms.items()}
        return torch.stack([getattr(weights, name) * term for name, term in terms.items()]).sum()


def embed(tokens: Tensor, mask: Tensor, projection: Tensor) -> Tensor:
    """Return the embeddings of b questions, rows of unit length, (b, e).

    Token states are (b, tokens, d).
    """
    return functional.normalize(masked_mean(tokens, mask) @ projection.T, dim=1)
