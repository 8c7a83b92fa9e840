"""The named methods: network + loss + batches, with their sources."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dupq.data.splits import PairTable

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import nn


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
    kind: str, model: Any, pairs: PairTable, targets: NDArray[np.float64] | None, validation: PairTable | None
) -> Parts:
    """The stock trainer's parts for a bi-encoder or a cross-encoder; see `dupq.training.trainer.train`."""
    build = _cross_encoder if kind == "cross-encoder" else _bi_encoder
    return build(model, pairs, pairs.labels if targets is None else targets, validation)


def _labelled(pairs: PairTable, targets: NDArray[Any]) -> Dataset:
    from datasets import Dataset

    return Dataset.from_dict({"sentence1": pairs.left, "sentence2": pairs.right, "label": targets.astype(np.float32)})


def _cross_encoder(model: Any, pairs: PairTable, targets: NDArray[Any], validation: PairTable | None) -> Parts:
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
        _labelled(pairs, targets),
        UnorderedBinaryCrossEntropyLoss(model),
        batches,
        evaluator,
    )


def _bi_encoder(model: Any, pairs: PairTable, targets: NDArray[Any], validation: PairTable | None) -> Parts:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer.evaluation import BinaryClassificationEvaluator
    from sentence_transformers.sentence_transformer.losses import CoSENTLoss, MultipleNegativesRankingLoss

    from dupq.training.sampling import batches

    duplicates = pairs.take(pairs.labels == 1)
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
        {
            "pairs": _labelled(pairs, targets),
            "duplicates": Dataset.from_dict({"anchor": duplicates.left, "positive": duplicates.right}),
        },
        {"pairs": CoSENTLoss(model), "duplicates": MultipleNegativesRankingLoss(model)},
        batches,
        evaluator,
    )
