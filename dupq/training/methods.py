"""Named training methods: a network, its losses and their rows, with sources."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from dupq.data.pairs import PairTable
from dupq.errors import InputError

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import nn

    from dupq.training.metric_learning import Metric

Kind = Literal["bi-encoder", "cross-encoder"]
Loss = Callable[[Any, Any, Any], "nn.Module"]
"""Function of the losses of sentence-transformers, the losses of dupq, and a model, that returns a loss."""
Rows = Literal["pairs", "duplicates", "triplets", "components", "texts"]
"""Rows of a loss: labelled pairs; duplicates alone; duplicates with a distinct question; pairs with the keys of their
components and questions; each text twice."""


@dataclass(frozen=True, slots=True)
class Method:
    """One way of training a network.

    Attributes:
        name: Name for `--method`.
        kind: Kind of network.
        line: One-line description.
        source: Authors and year.
        losses: Rows, and the loss over them; of a cross-encoder at most one, over pairs. Empty: binary cross-entropy
            on labelled pairs.
        network: Class of the pair head behind the encoder; "two-branch"; "" = none.
        needs_dropout: True where the loss compares views that differ by dropout.
        metric: Metric that is fitted in closed form in place of training, or None.
        completion: True: in place of training, similarities are completed and a student is fitted to them.
        decomposes: The pair head is made of the base's upper layers, not of random ones.
    """

    name: str
    kind: Kind
    line: str
    source: str
    losses: tuple[tuple[Rows, Loss], ...] = ()
    network: str = ""
    needs_dropout: bool = False
    metric: Metric | None = None
    completion: bool = False
    decomposes: bool = False

    @property
    def closed_form(self) -> bool:
        """True for a method that is fitted to all pairs at once, without steps."""
        return self.completion or self.metric is not None

    @property
    def unsupervised(self) -> bool:
        """True for a method that uses no labels."""
        return any(rows == "texts" for rows, _ in self.losses)

    @property
    def takes_soft_labels(self) -> bool:
        """True for a method that can learn soft labels."""
        return not self.metric and (not self.losses or any(rows == "pairs" for rows, _ in self.losses))


def _bi_encoder(
    name: str, line: str, source: str, *losses: tuple[Rows, Loss], network: str = "", needs_dropout: bool = False
) -> Method:
    return Method(name, "bi-encoder", line, source, losses, network, needs_dropout=needs_dropout)


def _pair_head(name: str, line: str, source: str, network: str) -> Method:
    return Method(name, "cross-encoder", line, source, network=network)


def _metric(metric: Metric, line: str, source: str) -> Method:
    return Method(metric, "cross-encoder", line, source, network="LearnedMetric", metric=metric)


_METHODS = (
    _bi_encoder(
        "cosent+ranking",
        "cosent on all pairs and ranking on the duplicates, in turn (default)",
        "Huang et al. 2024; Cortes, Mohri & Rastogi 2007; Henderson et al. 2017",
        ("pairs", lambda st, own, model: own.GapCoSENTLoss(model)),
        ("duplicates", lambda st, own, model: st.MultipleNegativesRankingLoss(model)),
    ),
    _bi_encoder(
        "contrastive",
        "squared distance of duplicates, and squared hinge of distinct pairs at a margin",
        "Chopra, Hadsell & LeCun 2005; Hadsell et al. 2006",
        ("pairs", lambda st, own, model: st.ContrastiveLoss(model)),
    ),
    _bi_encoder(
        "contrastive-online",
        "contrastive loss on the hard pairs of each batch",
        "Hadsell et al. 2006; sentence-transformers",
        ("pairs", lambda st, own, model: st.OnlineContrastiveLoss(model)),
    ),
    _bi_encoder(
        "linear-hinge",
        "contrastive loss that is linear in the distance",
        "Vo & Hays 2016",
        ("pairs", lambda st, own, model: own.LinearHingeLoss(model)),
    ),
    _bi_encoder(
        "triplet-hard",
        "triplets of a question, its farthest duplicate and its nearest other question",
        "Hoffer & Ailon 2015; Hermans et al. 2017",
        ("components", lambda st, own, model: own.HardTripletLoss(model)),
    ),
    _bi_encoder(
        "triplet-semi-hard",
        "triplets of a question, each duplicate and the nearest other question beyond it",
        "Schroff et al. 2015",
        ("components", lambda st, own, model: own.SemiHardTripletLoss(model)),
    ),
    _bi_encoder(
        "logistic",
        "log loss of a logistic function of the distance, without a margin",
        "Vo & Hays 2016",
        ("pairs", lambda st, own, model: own.LogisticDistanceLoss(model)),
    ),
    _bi_encoder(
        "logistic-triplet",
        "log loss of the difference of two distances, over all triplets of a batch",
        "Vo & Hays 2016",
        ("components", lambda st, own, model: own.LogisticTripletLoss(model)),
    ),
    _bi_encoder(
        "two-branch",
        "embedding head with ranking across and within the two sides",
        "Wang, Li & Lazebnik 2016",
        ("components", lambda st, own, model: own.StructurePreservingLoss(model)),
        network="two-branch",
    ),
    _bi_encoder(
        "ranking",
        "rank of each duplicate above all other questions of the batch",
        "Henderson et al. 2017",
        ("duplicates", lambda st, own, model: st.MultipleNegativesRankingLoss(model)),
    ),
    _bi_encoder(
        "ranking-hard",
        "ranking, also above a question that is labelled distinct from one of the two",
        "Henderson et al. 2017; Karpukhin et al. 2020",
        ("triplets", lambda st, own, model: st.MultipleNegativesRankingLoss(model)),
        ("duplicates", lambda st, own, model: st.MultipleNegativesRankingLoss(model)),
    ),
    _bi_encoder(
        "cosent",
        "order of all pairs of a batch by label or soft label",
        "Huang et al. 2024; Cortes, Mohri & Rastogi 2007",
        ("pairs", lambda st, own, model: own.GapCoSENTLoss(model)),
    ),
    _bi_encoder(
        "angle",
        "cosent on the angle in complex space, which does not saturate",
        "Li & Li 2024",
        ("pairs", lambda st, own, model: st.AnglELoss(model)),
    ),
    _bi_encoder(
        "contrastive+ranking",
        "contrastive-online on all pairs and ranking on the duplicates, in turn",
        "Hadsell et al. 2006; Henderson et al. 2017",
        ("pairs", lambda st, own, model: st.OnlineContrastiveLoss(model)),
        ("duplicates", lambda st, own, model: st.MultipleNegativesRankingLoss(model)),
    ),
    _bi_encoder(
        "dropout-contrast",
        "pretraining without labels: two dropout masks of a question, ranked above the batch",
        "Gao, Yao & Chen 2021 (SimCSE)",
        ("texts", lambda st, own, model: st.MultipleNegativesRankingLoss(model)),
        needs_dropout=True,
    ),
    _bi_encoder(
        "triplet-adapted",
        "triplet-hard, with the mined questions held to the mean of those to choose from",
        "Yu et al. 2018",
        ("components", lambda st, own, model: own.AdaptedTripletLoss(model)),
    ),
    _bi_encoder(
        "angular",
        "bound on the angle at the other question of a triplet",
        "Wang et al. 2017",
        ("components", lambda st, own, model: own.AngularLoss(model)),
    ),
    _bi_encoder(
        "n-pair-angular",
        "rank of each duplicate above all other questions of the batch, with angular",
        "Sohn 2016; Wang et al. 2017",
        ("components", lambda st, own, model: own.NPairAngularLoss(model)),
    ),
    _bi_encoder(
        "multi-view",
        "rank of the pooled paraphrases of a question above those of other questions",
        "Su et al. 2015",
        ("components", lambda st, own, model: own.MultiViewLoss(model)),
    ),
    Method(
        "spiral",
        "bi-encoder",
        "no training: linear map to embeddings that complete the labels and cosines of few pairs",
        "Lei et al. 2017 (SPIRAL)",
        completion=True,
    ),
    Method("classification", "cross-encoder", "both questions in one input (default)", "Vo & Hays 2016; Devlin 2019"),
    Method(
        "r-drop",
        "cross-encoder",
        "classification of two dropout masks and both orders, held together",
        "Liang et al. 2021",
        (("pairs", lambda st, own, model: own.RDropLoss(model)),),
        needs_dropout=True,
    ),
    Method(
        "decomposed",
        "cross-encoder",
        "lower layers read each question by itself, the upper third both together",
        "Cao et al. 2020 (DeFormer); MacAvaney et al. 2020 (PreTTR)",
        network="JointLayers",
        decomposes=True,
    ),
    _pair_head("hybrid", "classifier on the sum, difference and product of two vectors", "Vo & Hays 2016", "Hybrid"),
    _pair_head(
        "similarity",
        "regression on the product of two projected unit vectors",
        "Wang, Li & Lazebnik 2017",
        "SimilarityNetwork",
    ),
    _pair_head(
        "conditional",
        "distance under masks that depend on the pair",
        "Veit et al. 2017; Tan et al. 2019",
        "ConditionalSimilarity",
    ),
    _pair_head(
        "recurrent", "recurrent attention over both questions in turn", "Shyam et al. 2017", "RecurrentComparator"
    ),
    _pair_head("residual", "similarity vector through skip connections", "Mehrotra & Dukkipati 2017", "ResidualPairs"),
    Method(
        "residual-generative",
        "cross-encoder",
        "residual, with a generator of embeddings that it must find distinct",
        "Mehrotra & Dukkipati 2017",
        (("pairs", lambda st, own, model: own.GenerativeLoss(model)),),
        network="GenerativeResidualPairs",
    ),
    _pair_head(
        "neighbourhood",
        "differences of each token from the tokens near its place in the other question",
        "Ahmed, Jones & Marks 2015",
        "NeighbourhoodDifferences",
    ),
    _pair_head(
        "correlation",
        "normalised correlation of each token with all tokens of the other question",
        "Subramaniam et al. 2016",
        "NormalisedCorrelation",
    ),
    _pair_head("arc-1", "convolutions of each question, then a classifier", "Hu et al. 2014 (ARC-I)", "ArcApart"),
    _pair_head("arc-2", "convolutions of all pairs of segments", "Hu et al. 2014 (ARC-II)", "ArcMerged"),
    _pair_head(
        "template",
        "the shorter question slid over the longer, by cross-correlation of tokens",
        "Bertinetto et al. 2016",
        "TemplateMatching",
    ),
    _pair_head(
        "pseudo-siamese",
        "two branches without shared weights, both assignments averaged",
        "Zagoruyko & Komodakis 2015",
        "PseudoSiamese",
    ),
    _pair_head(
        "two-channel",
        "aligned tokens of both questions as channels of one convolution",
        "Zagoruyko & Komodakis 2015",
        "TwoChannel",
    ),
    _metric("euclidean", "no training: distance of the encoder's embeddings", "-"),
    _metric("mahalanobis", "no training: distance by the inverse covariance", "Mahalanobis 1936"),
    _metric("fisher", "no training: distance along the most discriminative directions", "Fisher 1936"),
    _metric("kissme", "no training: likelihood ratio of two normal distributions", "Köstinger et al. 2012"),
    _metric("canonical", "no training: distance along the directions that duplicates share", "Hotelling 1936"),
)

METHODS = {method.name: method for method in _METHODS}
"""All methods by name; the first of each kind is its default."""


def find_method(kind: str, name: str | None = None) -> Method:
    """Return the method of a kind by name (default: the default of its kind).

    Raises:
        InputError: No method has this name and kind.
    """
    known = [method for method in _METHODS if method.kind == kind]
    if name is None and known:
        return known[0]
    found = METHODS.get(name or "") if isinstance(name, (str, type(None))) else None
    if found is None:
        raise InputError(f"unknown method {name!r}", hint=f"use one of {', '.join(m.name for m in known)}")
    if found.kind != kind:
        raise InputError(f"the method {name!r} trains a {found.kind}, not a {kind}", hint=f"train a {found.kind}")
    return found


@dataclass(frozen=True, slots=True)
class Parts:
    """Trainer class, arguments class and arguments of the stock trainer."""

    trainer: Callable[..., Any]
    arguments: Callable[..., Any]
    datasets: Dataset | dict[str, Dataset]
    losses: nn.Module | dict[str, nn.Module]
    evaluator: Any


def assemble(
    method: Method,
    model: Any,
    pairs: PairTable,
    soft_labels: NDArray[np.float64] | None,
    validation: PairTable | None,
) -> Parts:
    """Return the parts of the stock trainer for a method.

    See `dupq.training.trainer.train`.
    """
    build = _cross_encoder_parts if method.kind == "cross-encoder" else _bi_encoder_parts
    return build(method, model, pairs, pairs.labels if soft_labels is None else soft_labels, validation)


def _rows(kind: Rows, pairs: PairTable, labels: NDArray[Any]) -> Dataset:
    from datasets import Dataset

    from dupq.training.samplers import hard_triplets, question_keys

    if kind == "texts":
        texts = sorted({*pairs.left, *pairs.right})
        return Dataset.from_dict({"anchor": texts, "positive": texts})
    if kind == "duplicates":
        duplicates = pairs.take(pairs.labels == 1)
        return Dataset.from_dict({"anchor": duplicates.left, "positive": duplicates.right})
    if kind == "triplets":
        anchors, positives, negatives = hard_triplets(pairs.left, pairs.right, pairs.labels)
        return Dataset.from_dict({"anchor": anchors, "positive": positives, "negative": negatives})
    if kind == "components":
        keys = question_keys(pairs.left, pairs.right, pairs.labels).tolist()
        return Dataset.from_dict({"sentence1": pairs.left, "sentence2": pairs.right, "label": keys})
    return Dataset.from_dict({"sentence1": pairs.left, "sentence2": pairs.right, "label": labels.astype(np.float32)})


def _cross_encoder_parts(
    method: Method, model: Any, pairs: PairTable, labels: NDArray[Any], validation: PairTable | None
) -> Parts:
    from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
    from sentence_transformers.cross_encoder import losses as stock
    from sentence_transformers.cross_encoder.evaluation import CrossEncoderClassificationEvaluator

    from dupq.training import losses as own

    evaluator = None
    if validation is not None:
        texts = [list(pair) for pair in zip(validation.left, validation.right, strict=True)]
        evaluator = CrossEncoderClassificationEvaluator(
            texts, validation.labels.tolist(), name="validation", batch_size=128, write_csv=False
        )
    loss: nn.Module = own.UnorderedBinaryCrossEntropyLoss(model)
    for _, build in method.losses:
        loss = build(stock, own, model)
    return Parts(CrossEncoderTrainer, CrossEncoderTrainingArguments, _rows("pairs", pairs, labels), loss, evaluator)


def _bi_encoder_parts(
    method: Method, model: Any, pairs: PairTable, labels: NDArray[Any], validation: PairTable | None
) -> Parts:
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer import losses as stock
    from sentence_transformers.sentence_transformer.evaluation import BinaryClassificationEvaluator

    from dupq.training import losses as own

    evaluator = None
    if validation is not None:
        evaluator = BinaryClassificationEvaluator(
            validation.left,
            validation.right,
            validation.labels.tolist(),
            name="validation",
            batch_size=128,
            write_csv=False,
            similarity_fn_names=["cosine"],
        )
    return Parts(
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
        {rows: _rows(rows, pairs, labels) for rows, _ in method.losses},
        {rows: loss(stock, own, model) for rows, loss in method.losses},
        evaluator,
    )
