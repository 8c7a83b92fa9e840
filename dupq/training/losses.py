"""Losses that sentence-transformers lacks, as sentence-transformers losses.

Those of embeddings use D = ‖u - v‖² between vectors of unit length, which is 2 - 2 cos(u, v), in [0, 4], so that they
train the cosine that scores a pair. Each takes two columns of questions. Labels are (n,) in [0, 1], or, for triplets,
(n, 2, 2) keys of `dupq.training.samplers.question_keys`: the component and the question of each side. Two questions are
duplicates where their components are equal; a question that is in several pairs of a batch counts once.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, cast

import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.base.losses.merged_forward import embed_columns
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss
from sentence_transformers.sentence_transformer.losses import BatchSemiHardTripletLoss, CoSENTLoss
from sentence_transformers.util import batch_to_device
from torch import Tensor, nn
from torch.nn import functional

from dupq.data.arguments import as_number
from dupq.errors import InputError
from dupq.models.pair_heads.generative import GenerativeResidualPairs


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


class RegularisedBinaryCrossEntropyLoss(BinaryCrossEntropyLoss):
    """Base class of binary cross-entropy plus weight times a second term.

    Args:
        model: The cross-encoder.
        weight: Weight of the second term.
    """

    def __init__(self, model: CrossEncoder, weight: float) -> None:
        super().__init__(model)
        self.weight = weight

    def forward(
        self, inputs: list[list[str]], labels: Tensor, prompt: str | None = None, task: str | None = None
    ) -> Tensor:
        pairs = self.views(list(zip(*inputs, strict=True)))
        features = self.model.preprocess(pairs, prompt=prompt, task=task)
        outputs = self.model(batch_to_device(features, self.model.device))
        # In float32, although the encoder may run in bfloat16.
        logits = outputs["scores"].view(-1).float()
        labels = labels.view(-1).float().repeat(len(pairs) // len(labels))
        loss: Tensor = self.bce_with_logits_loss(logits, labels)
        return loss + self.weight * self.second_term(logits, outputs)

    def views(self, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return the n pairs to score, or several times n."""
        return pairs

    @abstractmethod
    def second_term(self, logits: Tensor, outputs: dict[str, Tensor]) -> Tensor:
        """Return the second term, a scalar, from the outputs of the network."""

    def get_config_dict(self) -> dict[str, Any]:
        return {"weight": self.weight}


class RDropLoss(RegularisedBinaryCrossEntropyLoss):
    """R-Drop: binary cross-entropy of two views of a pair, and their divergence.

    The views are two dropout masks; the second also has the questions in the other order. With the logits s and s' of
    the views of a pair, and their probabilities p and p', the loss is the mean over pairs of
    ½ (BCE(s, l) + BCE(s', l)) + weight · ½ (KL(p ‖ p') + KL(p' ‖ p)). The two KL sum to (p - p') (s - s').

    Inputs: two columns of n texts; labels (n,) in [0, 1]. Model: a `CrossEncoder` with one output and dropout. Source:
    Liang et al. 2021, whose loss is twice this one, with twice the weight.

    Args:
        model: The cross-encoder.
        weight: Weight of the divergence.
    """

    def __init__(self, model: CrossEncoder, weight: float = 1.0) -> None:
        super().__init__(model, weight)

    def views(self, pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
        return pairs + [(b, a) for a, b in pairs]

    def second_term(self, logits: Tensor, outputs: dict[str, Tensor]) -> Tensor:
        first, second = logits.chunk(2)
        return 0.5 * ((first.sigmoid() - second.sigmoid()) * (first - second)).mean()


class GenerativeLoss(RegularisedBinaryCrossEntropyLoss):
    """Binary cross-entropy with a generative regulariser.

    Generated embeddings are distinct from all questions. With the score f of two embeddings, p = 1 / (1 + e^-f), the
    generator G and normal noise z, the loss is the mean of BCE(f(u, v), l) over pairs, plus weight times the mean of
    -log(1 - p(w, G(w, z))) over the embeddings w of both questions. The network minimises it; the gradient of G is
    reversed, so that G maximises it in the same step.

    Inputs: two columns of n texts; labels (n,) in [0, 1]. Model: a `CrossEncoder` with the pair head
    `GenerativeResidualPairs`. Sources: Mehrotra & Dukkipati 2017; Ganin & Lempitsky 2015 for the reversed gradient.

    Args:
        model: The cross-encoder.
        weight: Weight of the generated pairs. A large one makes the network score exact duplicates lower, because the
            best generator copies.

    Raises:
        InputError: The network has another pair head.
    """

    def __init__(self, model: CrossEncoder, weight: float = 0.1) -> None:
        super().__init__(model, weight)
        if not isinstance(model[-1], GenerativeResidualPairs):
            raise InputError(
                f"the network must have the pair head GenerativeResidualPairs, got {type(model[-1]).__name__}",
                hint="train by --method residual-generative",
            )

    def second_term(self, logits: Tensor, outputs: dict[str, Tensor]) -> Tensor:
        tokens, mask = outputs["token_embeddings"], outputs["attention_mask"].bool()
        pair_head = cast(GenerativeResidualPairs, self.model[-1])
        with torch.autocast(tokens.device.type, enabled=False):
            generated = pair_head.compare_generated(pair_head.embed(tokens.float(), mask))
            return functional.softplus(generated).mean()


class GapCoSENTLoss(CoSENTLoss):
    """CoSENT, weighting two examples by the difference between their labels.

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
    """Linear hinge loss.

    The mean of l · D + (1 - l) · max(0, margin - D) over pairs. Unlike the squared hinge it pulls as hard on a pair
    that is nearly right as on a wrong one: prefer it where few labels are wrong. With a margin of 0 nothing pushes, and
    all embeddings collapse.

    Labels: (n,) in [0, 1]. Source: the contrastive loss of Vo & Hays 2016.
    """

    def __init__(self, model: SentenceTransformer, margin: float = 1.0) -> None:
        super().__init__(model, margin=margin)

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        distances = pair_distances(*embeddings)
        labels = labels.to(distances.dtype)
        return (labels * distances + (1 - labels) * (self.margin - distances).relu()).mean()


class LogisticDistanceLoss(EmbeddingLoss):
    """Distance-based logistic loss of pairs.

    The mean log loss of p = (1 + e^-m) / (1 + e^(s·D - m)), which is 1 at D = 0, ½ near D = m / s, and 0 beyond. No
    margin cuts a pair off; a confident one only counts less.

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
    """Batch-hard triplet loss.

    The mean of max(0, D(anchor, duplicate) - D(anchor, other) + margin). Each anchor is taken with its farthest
    duplicate and its nearest other question. Distinct pairs of the batch are its hard negatives. Unlike
    `BatchHardTripletLoss` of sentence-transformers, an anchor without a duplicate is skipped.

    Labels: (n, 2, 2) keys. Sources: Hoffer & Ailon 2015; Hermans, Beyer & Leibe 2017.
    """

    def __init__(self, model: SentenceTransformer, margin: float = 0.3) -> None:
        super().__init__(model, margin=margin)

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        _, distances, duplicate, other = _batch(embeddings, labels)
        complete = duplicate.any(1) & other.any(1)
        farthest = distances.masked_fill(~duplicate, -torch.inf).max(1).values[complete]
        nearest = distances.masked_fill(~other, torch.inf).min(1).values[complete]
        return _mean((farthest - nearest + self.margin).relu())


class SemiHardTripletLoss(EmbeddingLoss):
    """Batch-semi-hard triplet loss.

    It is `BatchSemiHardTripletLoss` of sentence-transformers. Each anchor is taken with each duplicate, and with the
    nearest other question beyond it, or the farthest of all. Safer than `HardTripletLoss` where labels are wrong.

    Labels: (n, 2, 2) keys. Source: Schroff, Kalenichenko & Philbin 2015.
    """

    def __init__(self, model: SentenceTransformer, margin: float = 0.3) -> None:
        super().__init__(model, margin=margin)

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        vectors, keys = _distinct_questions(embeddings, labels)
        if bool((keys == keys[0]).all()):  # no other question; the stock loss would compare with a distance of 0
            return 0.0 * vectors.sum()
        stock = BatchSemiHardTripletLoss(self.model, all_distances, self.margin)
        loss: Tensor = stock.compute_loss_from_embeddings([vectors], keys)
        return loss


class LogisticTripletLoss(EmbeddingLoss):
    """Distance-based logistic loss of triplets.

    The mean of log(1 + e^(s (D(anchor, duplicate) - D(anchor, other)))) over all triplets of the batch: prefer it to
    hinged triplets where batches are large. Memory: pairs of duplicates times questions of a batch.

    Labels: (n, 2, 2) keys. Source: Vo & Hays 2016.
    """

    def __init__(self, model: SentenceTransformer, scale: float = 10.0) -> None:
        super().__init__(model, scale=scale)

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        _, distances, duplicate, other = _batch(embeddings, labels)
        anchors, duplicates = duplicate.nonzero(as_tuple=True)
        gaps = (distances[anchors, duplicates].unsqueeze(1) - distances[anchors])[other[anchors]]
        return _mean(functional.softplus(self.scale * gaps))


class StructurePreservingLoss(EmbeddingLoss):
    """Two-branch ranking with structure-preserving constraints.

    A neighbourhood is a component of duplicates. With the left questions x and the right questions y of a batch, let
    [x, y, y'] be the mean of max(0, margin + D(x, y) - D(x, y')) over the triplets with a positive cost, y another
    question of x's neighbourhood and y' none of it. The loss is [x, y, y'] + [y, x, x'] + weight · ([x, x', x''] + [y,
    y', y'']).

    The last two terms need batches with several questions of a neighbourhood, as `NeighbourhoodBatchSampler` makes
    them. Prefer it where duplicate groups are large. Memory: n³.

    Labels: (n, 2, 2) keys. Source: Wang, Li & Lazebnik 2016.
    """

    weight: float

    def __init__(self, model: SentenceTransformer, margin: float = 0.3, weight: float = 0.2) -> None:
        super().__init__(model, margin=margin, weight=weight)

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        n = len(labels)
        distances = all_distances(torch.cat(embeddings))
        component, question = labels.transpose(0, 1).reshape(2 * n, 2).unbind(1)
        other = ~_same(component)
        duplicate = ~other & ~_same(question)
        left, right = slice(0, n), slice(n, 2 * n)

        def ranking(anchors: slice, candidates: slice) -> Tensor:
            here = distances[anchors, candidates]
            costs = (self.margin + here.unsqueeze(2) - here.unsqueeze(1)).relu()
            costs = costs * (duplicate[anchors, candidates].unsqueeze(2) & other[anchors, candidates].unsqueeze(1))
            return costs.sum() / (costs > 0).sum().clamp(min=1)

        across = ranking(left, right) + ranking(right, left)
        return across + self.weight * (ranking(left, left) + ranking(right, right))


class AdaptedTripletLoss(EmbeddingLoss):
    """Batch-hard triplets without selection bias.

    Mined embeddings are held to the mean of those that they were mined from: the loss is that of `HardTripletLoss` plus
    weight · (‖m⁺ - c⁺‖² + ‖m⁻ - c⁻‖²). m⁺ is the mean over the anchors of the mined duplicate, of unit length; c⁺ the
    mean over the anchors of the mean of all their duplicates, which is that of triplets drawn without selection; m⁻ and
    c⁻ likewise of the other questions. The bracket is the maximum mean discrepancy, with a linear kernel, between mined
    and original triplets: their anchors are the same.

    Hard mining favours unusual questions and wrong labels; the second term keeps them from moving the embeddings alone.

    Labels: (n, 2, 2) keys. Source: Yu et al. 2018, for the correction of the shift by mean embeddings.
    """

    weight: float

    def __init__(self, model: SentenceTransformer, margin: float = 0.3, weight: float = 1.0) -> None:
        super().__init__(model, margin=margin, weight=weight)

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        unit, distances, duplicate, other = _batch(embeddings, labels)
        complete = duplicate.any(1) & other.any(1)
        distances, duplicate, other = distances[complete], duplicate[complete], other[complete]
        if not len(distances):
            return 0.0 * unit.sum()
        farthest, mined_duplicates = distances.masked_fill(~duplicate, -torch.inf).max(1)
        nearest, mined_others = distances.masked_fill(~other, torch.inf).min(1)
        shift = unit.new_zeros(())
        for mined, candidates in ((mined_duplicates, duplicate), (mined_others, other)):
            weights = candidates.to(unit.dtype)
            original = (weights / weights.sum(1, keepdim=True)) @ unit
            shift = shift + (unit[mined] - original).mean(0).square().sum()
        return (farthest - nearest + self.margin).relu().mean() + self.weight * shift


class AngularLoss(EmbeddingLoss):
    """Angular loss: a bound on the angle at the other question of a triplet.

    For a question a and its duplicate p, of unit length, the mean over all (a, p) of a batch of
    log(1 + Σ_n e^f(a, p, n)) over the questions n distinct from them, with
    f(a, p, n) = 4 tan²(angle) (a + p) · n - 2 (1 + tan²(angle)) a · p.

    f is the source's ‖a - p‖² - 4 tan²(angle) ‖n - (a + p) / 2‖² without its constant terms. The hinge of the latter is
    0 where all embeddings are one point; this form is not. Memory: pairs of duplicates times questions of a batch.

    Labels: (n, 2, 2) keys. Source: Wang et al. 2017, equations 6 to 8.

    Args:
        model: The bi-encoder.
        angle: Bound in degrees, in (0, 90).

    Raises:
        InputError: The angle is out of range.
    """

    angle: float

    def __init__(self, model: SentenceTransformer, angle: float = 45.0) -> None:
        super().__init__(model, angle=as_number(angle, "angle", 0, 90, above=True, below=True))

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        return _angular(self.angle, *_duplicate_pairs(embeddings, labels))


class NPairAngularLoss(EmbeddingLoss):
    """N-pair loss with an angular term.

    The mean over all questions a and duplicates p of a batch of log(1 + Σ_n e^(scale (cos(a, n) - cos(a, p)))) over the
    questions n distinct from them, plus weight times `AngularLoss`.

    Labels: (n, 2, 2) keys. Sources: Sohn 2016; Wang et al. 2017, equation 9. The scale is ours, for unit vectors.

    Args:
        model: The bi-encoder.
        angle: Bound in degrees, in (0, 90).
        weight: Weight of the angular term.
        scale: Factor on the cosines.

    Raises:
        InputError: The angle is out of range.
    """

    angle: float
    weight: float

    def __init__(
        self, model: SentenceTransformer, angle: float = 45.0, weight: float = 2.0, scale: float = 20.0
    ) -> None:
        angle = as_number(angle, "angle", 0, 90, above=True, below=True)
        super().__init__(model, angle=angle, weight=weight, scale=scale)

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        cosines, of_first, of_second, other = _duplicate_pairs(embeddings, labels)
        ranking = _log_one_plus_sum(self.scale * (of_first - cosines), other)
        return ranking + self.weight * _angular(self.angle, cosines, of_first, of_second, other)


class MultiViewLoss(EmbeddingLoss):
    """Multi-view matching: a question against the pooled views of each meaning.

    The views of a meaning are its paraphrases, the questions of a component of duplicates. They are pooled by the
    element-wise maximum of their unit vectors: w_c over all questions of component c, and w_i over the duplicates of
    question i without itself. The loss is the mean over the questions i with a duplicate of
    -log(e_i / (e_i + Σ_c e^(scale cos(u_i, w_c)))) over the other components c, with e_i = e^(scale cos(u_i, w_i)).

    A question that lacks a feature of its paraphrases is pulled towards those that have it. Prefer it where duplicate
    groups are large.

    Labels: (n, 2, 2) keys. Source: Su et al. 2015, whose views are images of a shape.
    """

    def __init__(self, model: SentenceTransformer, scale: float = 20.0) -> None:
        super().__init__(model, scale=scale)

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        unit, _, duplicate, _ = _batch(embeddings, labels)
        components, component = torch.unique(_distinct_questions(embeddings, labels)[1], return_inverse=True)
        viewed = duplicate.any(1)
        if not bool(viewed.any()):
            return 0.0 * unit.sum()
        own = torch.stack([unit[views].amax(0) for views in duplicate[viewed]])
        pooled = torch.stack([unit[component == number].amax(0) for number in range(len(components))])
        unit, component = unit[viewed], component[viewed]
        right = self.scale * functional.cosine_similarity(unit, own).unsqueeze(1)
        others = self.scale * unit @ functional.normalize(pooled, dim=1).T
        others = others.scatter(1, component.unsqueeze(1), -torch.inf)
        return (torch.cat([right, others], dim=1).logsumexp(1) - right.squeeze(1)).mean()


def pair_distances(left: Tensor, right: Tensor) -> Tensor:
    """Return ‖u - v‖² of n pairs of vectors, scaled to unit length: (n,) in [0, 4]."""
    return (functional.normalize(left, dim=1) - functional.normalize(right, dim=1)).square().sum(1)


def all_distances(vectors: Tensor) -> Tensor:
    """Return ‖u - v‖² between all of n vectors, (n, n) in [0, 4].

    They are scaled to unit length first.
    """
    unit = functional.normalize(vectors, dim=1)
    return (2 - 2 * unit @ unit.T).clamp(min=0)


def _distinct_questions(embeddings: list[Tensor], labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the vectors and components of the distinct questions of a batch.

    They are (m, d) and (m,).
    """
    vectors = torch.cat(embeddings)
    component, question = labels.transpose(0, 1).reshape(len(vectors), 2).unbind(1)
    distinct, place = torch.unique(question, return_inverse=True)
    rows = torch.arange(len(vectors), device=vectors.device)
    first = rows.new_full((len(distinct),), len(vectors)).scatter_reduce(0, place, rows, "amin")
    return vectors[first], component[first]


def _batch(embeddings: list[Tensor], labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return unit vectors, distances and two masks of the m distinct questions.

    The vectors are (m, d); the distances, and the masks of duplicates and of distinct questions, are (m, m).
    """
    vectors, components = _distinct_questions(embeddings, labels)
    same = _same(components)
    itself = torch.eye(len(same), dtype=torch.bool, device=same.device)
    return functional.normalize(vectors, dim=1), all_distances(vectors), same & ~itself, ~same


def _duplicate_pairs(embeddings: list[Tensor], labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the cosines of k ordered pairs of duplicates among m questions.

    They are the cosine of each pair (k, 1), those of its first and second question with all questions (k, m) each, and
    a mask (k, m) of the questions that are distinct from both.
    """
    unit, _, duplicate, other = _batch(embeddings, labels)
    first, second = duplicate.nonzero(as_tuple=True)
    cosines = unit @ unit.T
    return cosines[first, second].unsqueeze(1), cosines[first], cosines[second], other[first]


def _angular(angle: float, cosines: Tensor, of_first: Tensor, of_second: Tensor, other: Tensor) -> Tensor:
    square = math.tan(math.radians(angle)) ** 2
    return _log_one_plus_sum(4 * square * (of_first + of_second) - 2 * (1 + square) * cosines, other)


def _log_one_plus_sum(exponents: Tensor, included: Tensor) -> Tensor:
    """Return the mean over rows of log(1 + Σ e^x) over the included entries x."""
    exponents = exponents.masked_fill(~included, -torch.inf)
    return _mean(functional.pad(exponents, (1, 0)).logsumexp(1))


def _same(keys: Tensor) -> Tensor:
    return keys.unsqueeze(0) == keys.unsqueeze(1)


def _mean(costs: Tensor) -> Tensor:
    # 0 with a gradient of 0 for a batch without triplets, where mean() is undefined.
    return costs.sum() / max(1, len(costs))
