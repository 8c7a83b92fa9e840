"""Distances learned in closed form over frozen embeddings; numpy and scikit-learn only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dupq.data.splits import PairTable
from dupq.errors import InputError
from dupq.models.scorers import chunks, fit_weights

if TYPE_CHECKING:
    from sentence_transformers.base.model import BaseModel

Metric = Literal["euclidean", "mahalanobis", "fisher", "kissme"]


@dataclass(frozen=True, slots=True)
class FittedMetric:
    """score = offset - slope · ‖root (u - v)‖².

    Attributes:
        root: L, float64 array (r, d), r at most d.
        slope, offset: The logistic regression's, above 0 and any.
    """

    root: NDArray[np.float64]
    slope: float
    offset: float

    def score(self, left: NDArray[Any], right: NDArray[Any]) -> NDArray[np.float64]:
        """Two times (n, d) -> raw logits (n,)."""
        return self.offset - self.slope * _squares(self.root, left - right)


def fit_metric(metric: Metric, left: NDArray[Any], right: NDArray[Any], labels: NDArray[Any]) -> FittedMetric:
    """Learns a distance from labelled pairs of vectors. Every covariance is shrunk (Ledoit & Wolf 2004).

    Args:
        metric: What L is. "euclidean": the identity. "mahalanobis" (Mahalanobis 1936): LᵀL = S⁻¹, S the covariance of
            all vectors, so that no direction counts more because it varies more. "fisher" (Fisher 1936): the half of
            the directions along which distinct pairs differ most for what duplicates differ, each scaled by the
            latter. "kissme" (Köstinger et al. 2012): LᵀL = S₁⁻¹ - S₀⁻¹, S₁ and S₀ the covariance of the differences
            within duplicates and within distinct pairs, its negative part left out: the log-likelihood ratio of two
            normal laws.
        left, right: (n, d) each.
        labels: (n,) of 0 and 1.

    Raises:
        InputError: An unknown metric, or one in which duplicates are no nearer than distinct pairs.
    """
    if metric not in get_args(Metric):
        raise InputError(f"{metric!r} is no metric", mend=f"use one of {', '.join(get_args(Metric))}")
    left, right = np.asarray(left, dtype=np.float64), np.asarray(right, dtype=np.float64)
    differences, duplicate = left - right, np.asarray(labels) == 1
    floor = 1e-6 * float(np.concatenate([left, right]).var(axis=0).mean())
    if metric == "euclidean":
        root = np.eye(left.shape[1])
    elif metric == "mahalanobis":
        values, vectors = np.linalg.eigh(_covariance(np.concatenate([left, right]), floor, centred=False))
        root = (vectors / np.sqrt(values)).T
    elif metric == "fisher":
        root = _fisher(_covariance(differences[duplicate], floor), _covariance(differences[~duplicate], floor))
    else:
        precision = [np.linalg.inv(_covariance(differences[side], floor)) for side in (duplicate, ~duplicate)]
        values, vectors = np.linalg.eigh(precision[0] - precision[1])
        root = (vectors * np.sqrt(np.maximum(values, 0))).T[::-1]
        root = root[: max(1, int((values > 0).sum()))]
    # What the distances measure is a logit once a logistic regression has put them to scale.
    try:
        (slope,), offset = fit_weights(-_squares(root, differences)[np.newaxis], labels)
    except InputError as error:
        raise InputError(
            f"by the {metric} distance duplicates are no nearer than distinct pairs",
            mend="use another method or a trained encoder, and check that label 1 means duplicate",
        ) from error
    return FittedMetric(root, slope, offset)


def _squares(root: NDArray[np.float64], differences: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(((differences @ root.T) ** 2).sum(axis=1))


def _covariance(rows: NDArray[np.float64], floor: float, centred: bool = True) -> NDArray[np.float64]:
    from sklearn.covariance import LedoitWolf

    # The order within a pair means nothing, so differences have mean 0 by right. Of duplicates that are all the same
    # to the encoder nothing could be inverted: no variance is less than the floor.
    values, vectors = np.linalg.eigh(LedoitWolf(assume_centered=centred).fit(rows).covariance_)
    return np.asarray((vectors * np.maximum(values, floor)) @ vectors.T)


def _fisher(within: NDArray[np.float64], between: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.linalg import eigh

    # Directions w with wᵀ within w = 1, in rising order of wᵀ between w.
    _, directions = eigh(between, within)
    return np.asarray(directions.T[::-1][: (len(within) + 1) // 2])


def fit_metric_network(model: BaseModel, metric: Metric, pairs: PairTable, batch_size: int) -> None:
    """Fits the `LearnedMetric` of a pair network, in place, on what its encoder makes of labelled pairs."""
    import torch

    from dupq.models.comparers import LearnedMetric

    fitted = fit_metric(metric, *embed_pairs(model, pairs, batch_size), pairs.labels)
    comparer = LearnedMetric(fitted.root.shape[1], len(fitted.root))
    with torch.no_grad():
        comparer.root.copy_(torch.from_numpy(np.ascontiguousarray(fitted.root)))
        comparer.slope.fill_(fitted.slope)
        comparer.offset.fill_(fitted.offset)
    model[1] = comparer.to(model.device)


def embed_pairs(
    model: BaseModel, pairs: PairTable, batch_size: int = 128
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The vectors that a pair network compares, of unit length: two float32 arrays (n, d).

    A pair's two may have changed sides: which is first means nothing.
    """
    import torch

    from dupq.models.comparers import VectorComparer

    order = np.argsort([len(a) + len(b) for a, b in zip(pairs.left, pairs.right, strict=True)], kind="stable")
    sides: list[list[Any]] = [[], []]
    model.eval()
    with torch.inference_mode():
        for part in chunks(len(pairs), batch_size):
            features = model.preprocess([(pairs.left[row], pairs.right[row]) for row in order[part]])
            features = model[0]({name: _moved(value, model.device) for name, value in features.items()})
            tokens, mask = features["token_embeddings"].float(), features["attention_mask"].bool()
            vectors = VectorComparer.embed(tokens, mask) / tokens.shape[2] ** 0.5
            for side, half in zip(sides, vectors.chunk(2), strict=True):
                side.append(half.cpu().numpy())
    back = np.argsort(order)
    left, right = (np.concatenate(side)[back] for side in sides)
    return left, right


def _moved(value: Any, device: Any) -> Any:
    return value.to(device) if hasattr(value, "to") else value
