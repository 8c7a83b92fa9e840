"""The named methods: network + loss + batches, with their sources."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from dupq.data.splits import PairTable
from dupq.errors import InputError

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import nn

    from dupq.training.metric_learning import Metric

Kind = Literal["bi-encoder", "cross-encoder"]
Rows = Literal["pairs", "duplicates", "closures", "texts"]
"""What a loss is fed: labelled pairs; duplicates alone; pairs with the keys of their closures; each text twice."""


@dataclass(frozen=True, slots=True)
class Method:
    """One way of training a network.

    Attributes:
        name: As `dupq train --method` takes it.
        kind: What it trains.
        line: What it does, in one line.
        source: Authors and year.
        losses: Rows and, for each, a function of the losses of sentence-transformers, of our own, and of a model that
            makes a loss. None: binary cross-entropy on labelled pairs.
        network: The comparer that follows the encoder; "two-branch"; "" = nothing.
        metric: The distance that is fitted in closed form in place of training, if any.
    """

    name: str
    kind: Kind
    line: str
    source: str
    losses: tuple[tuple[Rows, Callable[[Any, Any, Any], nn.Module]], ...] = ()
    network: str = ""
    metric: Metric | None = None

    @property
    def unsupervised(self) -> bool:
        """It looks at no label."""
        return any(rows == "texts" for rows, _ in self.losses)

    @property
    def takes_targets(self) -> bool:
        """It can learn probabilities in place of labels."""
        return not self.metric and (not self.losses or any(rows == "pairs" for rows, _ in self.losses))


def _siamese(
    name: str, line: str, source: str, *losses: tuple[Rows, Callable[[Any, Any, Any], nn.Module]], network: str = ""
) -> Method:
    return Method(name, "bi-encoder", line, source, losses, network)


def _compared(name: str, line: str, source: str, network: str) -> Method:
    return Method(name, "cross-encoder", line, source, network=network)


def _measured(metric: Metric, line: str, source: str) -> Method:
    return Method(metric, "cross-encoder", line, source, network="LearnedMetric", metric=metric)


_METHODS = (
    _siamese(
        "cosent+ranking",
        "order all pairs by label, and rank each duplicate above the batch (default)",
        "Huang et al. 2024; Cortes, Mohri & Rastogi 2007; Henderson et al. 2017",
        ("pairs", lambda st, own, model: own.GapCoSENTLoss(model)),
        ("duplicates", lambda st, own, model: st.MultipleNegativesRankingLoss(model)),
    ),
    _siamese(
        "contrastive",
        "pull duplicates, push distinct pairs to a margin, both by squared distance",
        "Chopra, Hadsell & LeCun 2005; Hadsell et al. 2006",
        ("pairs", lambda st, own, model: st.ContrastiveLoss(model)),
    ),
    _siamese(
        "contrastive-online",
        "the same, over the hard pairs of each batch only",
        "Hadsell et al. 2006; sentence-transformers",
        ("pairs", lambda st, own, model: st.OnlineContrastiveLoss(model)),
    ),
    _siamese(
        "linear-hinge",
        "the same, linear in the distance",
        "Vo & Hays 2016",
        ("pairs", lambda st, own, model: own.LinearHingeLoss(model)),
    ),
    _siamese(
        "triplet-hard",
        "each question nearer to its farthest duplicate than to its nearest other",
        "Hoffer & Ailon 2015; Hermans et al. 2017",
        ("closures", lambda st, own, model: own.MinedTripletLoss(model, "hard")),
    ),
    _siamese(
        "triplet-semi-hard",
        "each question nearer to a duplicate than to the nearest other beyond it",
        "Schroff et al. 2015",
        ("closures", lambda st, own, model: own.MinedTripletLoss(model, "semi-hard")),
    ),
    _siamese(
        "logistic",
        "the distance as the logit of being distinct, soft in place of a margin",
        "Vo & Hays 2016",
        ("pairs", lambda st, own, model: own.LogisticDistanceLoss(model)),
    ),
    _siamese(
        "logistic-triplet",
        "the difference of two distances as a logit, over all triplets of a batch",
        "Vo & Hays 2016",
        ("closures", lambda st, own, model: own.LogisticTripletLoss(model)),
    ),
    _siamese(
        "two-branch",
        "an embedding head ranked across and within sides, a duplicate group being a neighbourhood",
        "Wang, Li & Lazebnik 2016",
        ("closures", lambda st, own, model: own.StructurePreservingLoss(model)),
        network="two-branch",
    ),
    _siamese(
        "ranking",
        "rank each duplicate above all other questions of the batch",
        "Henderson et al. 2017",
        ("duplicates", lambda st, own, model: st.MultipleNegativesRankingLoss(model)),
    ),
    _siamese(
        "cosent",
        "order all pairs of a batch by their label",
        "Huang et al. 2024; Cortes, Mohri & Rastogi 2007",
        ("pairs", lambda st, own, model: own.GapCoSENTLoss(model)),
    ),
    _siamese(
        "angle",
        "the same, by the angle in complex space, which does not go flat",
        "Li & Li 2024",
        ("pairs", lambda st, own, model: st.AnglELoss(model)),
    ),
    _siamese(
        "contrastive+ranking",
        "contrastive and ranking in turn",
        "Hadsell et al. 2006; Henderson et al. 2017",
        ("pairs", lambda st, own, model: st.OnlineContrastiveLoss(model)),
        ("duplicates", lambda st, own, model: st.MultipleNegativesRankingLoss(model)),
    ),
    _siamese(
        "dropout-contrast",
        "no labels: a question read twice, through two dropouts, against the batch; a start for the others",
        "Gao, Yao & Chen 2021 (SimCSE)",
        ("texts", lambda st, own, model: st.MultipleNegativesRankingLoss(model)),
    ),
    Method("classification", "cross-encoder", "both questions in one input (default)", "Vo & Hays 2016; Devlin 2019"),
    _compared("hybrid", "encoded apart, merged by sum, difference and product, classified", "Vo & Hays 2016", "Hybrid"),
    _compared(
        "similarity",
        "the product of two projected unit vectors, regressed",
        "Wang, Li & Lazebnik 2017",
        "SimilarityNetwork",
    ),
    _compared(
        "conditional",
        "a distance under masks that the pair itself chooses",
        "Veit et al. 2017; Tan et al. 2019",
        "ConditionalSimilarity",
    ),
    _compared(
        "recurrent", "a controller that glimpses at both questions in turn", "Shyam et al. 2017", "RecurrentComparator"
    ),
    _compared("residual", "a similarity vector through skip connections", "Mehrotra & Dukkipati 2017", "ResidualPairs"),
    _compared(
        "neighbourhood",
        "differences of each token from those about its place in the other question",
        "Ahmed, Jones & Marks 2015",
        "NeighbourhoodDifferences",
    ),
    _compared(
        "correlation",
        "how well each token is found anywhere in the other question",
        "Subramaniam et al. 2016",
        "NormalisedCorrelation",
    ),
    _compared("arc-1", "convolved apart, then classified", "Hu et al. 2014 (ARC-I)", "ArcApart"),
    _compared("arc-2", "merged segment by segment, then convolved", "Hu et al. 2014 (ARC-II)", "ArcMerged"),
    _measured("euclidean", "no training: the distance of the encoder's own embeddings", "-"),
    _measured("mahalanobis", "no training: the same, by the inverse covariance", "Mahalanobis 1936"),
    _measured("fisher", "no training: along the directions in which distinct pairs differ most", "Fisher 1936"),
    _measured("kissme", "no training: the likelihood ratio of two normal laws of differences", "Köstinger et al. 2012"),
)

METHODS = {method.name: method for method in _METHODS}
"""Every method by name; the first of each kind is its default."""


def find_method(kind: str, name: str | None = None) -> Method:
    """The method of that name; the default of its kind without one.

    Raises:
        InputError: There is none of this name and kind.
    """
    known = [method for method in _METHODS if method.kind == kind]
    if name is None and known:
        return known[0]
    found = METHODS.get(name or "")
    if found is None:
        raise InputError(f"there is no method {name!r}", mend=f"use one of {', '.join(m.name for m in known)}")
    if found.kind != kind:
        raise InputError(f"the method {name!r} trains a {found.kind}, not a {kind}", mend=f"train a {found.kind}")
    return found


@dataclass(frozen=True, slots=True)
class Parts:
    """What the stock trainer is handed."""

    trainer: Callable[..., Any]
    arguments: Callable[..., Any]
    datasets: Dataset | dict[str, Dataset]
    losses: nn.Module | dict[str, nn.Module]
    batch_sampler: Callable[..., Any]
    evaluator: Any


def assemble(
    method: Method,
    model: Any,
    pairs: PairTable,
    targets: NDArray[np.float64] | None,
    validation: PairTable | None,
) -> Parts:
    """The stock trainer's parts for a method; see `dupq.training.trainer.train`."""
    build = _cross_encoder if method.kind == "cross-encoder" else _bi_encoder
    return build(method, model, pairs, pairs.labels if targets is None else targets, validation)


def _rows(kind: Rows, pairs: PairTable, targets: NDArray[Any]) -> Dataset:
    from datasets import Dataset

    from dupq.training.sampling import closures

    if kind == "texts":
        texts = sorted({*pairs.left, *pairs.right})
        return Dataset.from_dict({"anchor": texts, "positive": texts})
    if kind == "duplicates":
        duplicates = pairs.take(pairs.labels == 1)
        return Dataset.from_dict({"anchor": duplicates.left, "positive": duplicates.right})
    if kind == "closures":
        labels = closures(pairs.left, pairs.right, pairs.labels).tolist()
    else:
        labels = targets.astype(np.float32)
    return Dataset.from_dict({"sentence1": pairs.left, "sentence2": pairs.right, "label": labels})


def _cross_encoder(
    method: Method, model: Any, pairs: PairTable, targets: NDArray[Any], validation: PairTable | None
) -> Parts:
    from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
    from sentence_transformers.cross_encoder.evaluation import CrossEncoderClassificationEvaluator

    from dupq.training.losses import UnorderedBinaryCrossEntropyLoss
    from dupq.training.sampling import batches

    evaluator = None
    if validation is not None:
        evaluator = CrossEncoderClassificationEvaluator(
            [list(pair) for pair in zip(validation.left, validation.right, strict=True)],
            validation.labels.tolist(),
            name="validation",
            batch_size=128,
            write_csv=False,
        )
    return Parts(
        CrossEncoderTrainer,
        CrossEncoderTrainingArguments,
        _rows("pairs", pairs, targets),
        UnorderedBinaryCrossEntropyLoss(model),
        batches,
        evaluator,
    )


def _bi_encoder(
    method: Method, model: Any, pairs: PairTable, targets: NDArray[Any], validation: PairTable | None
) -> Parts:
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer import losses as stock
    from sentence_transformers.sentence_transformer.evaluation import BinaryClassificationEvaluator

    from dupq.training import losses as own
    from dupq.training.sampling import batches

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
        {rows: _rows(rows, pairs, targets) for rows, _ in method.losses},
        {rows: loss(stock, own, model) for rows, loss in method.losses},
        batches,
        evaluator,
    )
