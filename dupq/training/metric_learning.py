"""Metric learning in closed form over frozen embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dupq.data.pairs import PairTable
from dupq.errors import InputError
from dupq.models.batching import chunks
from dupq.models.ensemble import fit_weights

if TYPE_CHECKING:
    from sentence_transformers.base.model import BaseModel

Metric = Literal["euclidean", "mahalanobis", "fisher", "kissme", "canonical"]


@dataclass(frozen=True, slots=True)
class FittedMetric:
    """Logit offset - slope · ‖root (u - v)‖² of a learned distance.

    Attributes:
        root: L, float64 array (r, d) with r <= d.
        slope, offset: Coefficients of a logistic regression; the slope is positive.
    """

    root: NDArray[np.float64]
    slope: float
    offset: float

    def score(self, left: NDArray[Any], right: NDArray[Any]) -> NDArray[np.float64]:
        """Return the logits (n,) of pairs of vectors, (n, d) each."""
        return self.offset - self.slope * _squares(self.root, left - right)


def fit_metric(metric: Metric, left: NDArray[Any], right: NDArray[Any], labels: NDArray[Any]) -> FittedMetric:
    """Fit a distance to labelled pairs of vectors, and a logistic regression to it.

    The distance is ‖L (u - v)‖². Every covariance is shrunk (Ledoit & Wolf 2004).

    Args:
        metric: "euclidean": L is the identity. "mahalanobis" (Mahalanobis 1936): LᵀL = S⁻¹ with the covariance S of all
            vectors, so that directions of large variance do not dominate. "fisher" (Fisher 1936): the half of the
            directions with the largest ratio of the variance between distinct pairs to that within duplicates, each
            scaled by the latter. "kissme" (Köstinger et al. 2012): LᵀL = S₁⁻¹ - S₀⁻¹ without its negative part, with
            the covariances S₁ and S₀ of the differences of duplicates and of distinct pairs: the log-likelihood ratio
            of two normal distributions. "canonical" (Hotelling 1936): the canonical directions w between the two sides
            of the duplicates, with both orders of each pair, so that the sides have one covariance C and the same
            directions: S w = r C w with wᵀ C w = 1, S the covariance between the sides, and r the correlation of the
            sides along w. L has the row √r w for each r > 0; these weights are ours.
        left, right: (n, d) each.
        labels: (n,) of 0 and 1.

    Returns:
        The fitted metric.

    Raises:
        InputError: An unknown metric, or one by which duplicates are no nearer than distinct pairs.
    """
    if metric not in get_args(Metric):
        raise InputError(
            f"metric must be one of {', '.join(get_args(Metric))}, got {metric!r}", hint="give one of them"
        )
    left, right = np.asarray(left, dtype=np.float64), np.asarray(right, dtype=np.float64)
    differences, duplicate = left - right, np.asarray(labels) == 1
    refusal = InputError(
        f"by the {metric} distance duplicates are no nearer than distinct pairs",
        hint="use another method or a trained encoder, and check that label 1 means duplicate",
    )
    floor = 1e-6 * float(np.concatenate([left, right]).var(axis=0).mean())
    if not floor > 0:  # all vectors are one point
        raise refusal
    if metric == "euclidean":
        root = np.eye(left.shape[1])
    elif metric == "mahalanobis":
        values, vectors = np.linalg.eigh(_covariance(np.concatenate([left, right]), floor, centred=False))
        root = (vectors / np.sqrt(values)).T
    elif metric == "fisher":
        root = _fisher(_covariance(differences[duplicate], floor), _covariance(differences[~duplicate], floor))
    elif metric == "canonical":
        root = _canonical(left[duplicate], right[duplicate], floor)
    else:
        precision = [np.linalg.inv(_covariance(differences[side], floor)) for side in (duplicate, ~duplicate)]
        values, vectors = np.linalg.eigh(precision[0] - precision[1])
        root = (vectors * np.sqrt(np.maximum(values, 0))).T[::-1]
        root = root[: max(1, int((values > 0).sum()))]
    try:
        (slope,), offset = fit_weights(-_squares(root, differences)[np.newaxis], labels)
    except InputError as error:
        raise refusal from error
    if not slope > 0:  # no direction separates them, and all distances are 0
        raise refusal
    return FittedMetric(root, slope, offset)


def _squares(root: NDArray[np.float64], differences: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(((differences @ root.T) ** 2).sum(axis=1))


def _covariance(rows: NDArray[np.float64], floor: float, centred: bool = True) -> NDArray[np.float64]:
    from sklearn.covariance import LedoitWolf

    # A pair has no order, so differences have mean 0. The floor keeps the covariance of exact duplicates invertible.
    values, vectors = np.linalg.eigh(LedoitWolf(assume_centered=centred).fit(rows).covariance_)
    return np.asarray((vectors * np.maximum(values, floor)) @ vectors.T)


def _fisher(within: NDArray[np.float64], between: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.linalg import eigh

    # Directions w with wᵀ within w = 1, in rising order of wᵀ between w.
    _, directions = eigh(between, within)
    return np.asarray(directions.T[::-1][: (len(within) + 1) // 2])


def _canonical(left: NDArray[np.float64], right: NDArray[np.float64], floor: float) -> NDArray[np.float64]:
    from scipy.linalg import eigh

    # With both orders of each pair, sums and differences are uncorrelated, with covariances C + S and C - S. Each is
    # shrunk by itself, so that no correlation reaches 1.
    sums = _covariance((left + right) / np.sqrt(2), floor, centred=False)
    differences = _covariance((left - right) / np.sqrt(2), floor)
    # Directions with wᵀ (C - S) w = 1 and wᵀ (C + S) w = ratio = (1 + r) / (1 - r), in rising order of r.
    ratios, directions = eigh(sums, differences)
    correlations = (ratios - 1) / (ratios + 1)
    directions = directions / np.sqrt((ratios + 1) / 2)
    root = (directions * np.sqrt(np.maximum(correlations, 0))).T[::-1]
    return np.asarray(root[: max(1, int((correlations > 0).sum()))])


def fit_metric_network(model: BaseModel, metric: Metric, pairs: PairTable, batch_size: int) -> None:
    """Fit the `LearnedMetric` of a pair network, in place.

    It is fitted to the encoder's embeddings of labelled pairs.

    Raises:
        InputError: As for `fit_metric`.
    """
    import torch

    from dupq.models.pair_heads.vectors import LearnedMetric

    fitted = fit_metric(metric, *embed_pairs(model, pairs, batch_size), pairs.labels)
    pair_head = LearnedMetric(fitted.root.shape[1], len(fitted.root))
    with torch.no_grad():
        pair_head.root.copy_(torch.from_numpy(np.ascontiguousarray(fitted.root)))
        pair_head.slope.fill_(fitted.slope)
        pair_head.offset.fill_(fitted.offset)
    model[1] = pair_head.to(model.device)


def embed_pairs(
    model: BaseModel, pairs: PairTable, batch_size: int = 128
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the unit vectors of pairs by a pair network, two float32 arrays (n, d).

    The two vectors of a pair may be swapped, because a pair has no order.
    """
    import torch
    from sentence_transformers.util import batch_to_device

    from dupq.models.pair_heads.pairs import VectorPairHead

    order = np.argsort([len(a) + len(b) for a, b in zip(pairs.left, pairs.right, strict=True)], kind="stable")
    sides: list[list[Any]] = [[], []]
    model.eval()
    with torch.inference_mode():
        for part in chunks(len(pairs), batch_size):
            features = model.preprocess([(pairs.left[row], pairs.right[row]) for row in order[part]])
            features = model[0](batch_to_device(features, model.device))
            tokens, mask = features["token_embeddings"].float(), features["attention_mask"].bool()
            vectors = VectorPairHead.embed(tokens, mask) / tokens.shape[2] ** 0.5
            for side, half in zip(sides, vectors.chunk(2), strict=True):
                side.append(half.cpu().numpy())
    back = np.argsort(order)
    left, right = (np.concatenate(side)[back] for side in sides)
    return left, right
