"""Scaled cosine of a bi-encoder, and weighted sums of scores."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dupq.errors import InputError
from dupq.models.batching import check_lengths, chunks, part_of, rows_of
from dupq.models.fingerprint import combined_fingerprint
from dupq.types import Embedder, Progress, Scorer

COSINE_SCALE = 20.0
"""Factor that brings a cosine to the scale of a logit; the bi-encoder's losses use the same one."""


@dataclass(frozen=True)
class CosineScorer:
    """Score of a bi-encoder: the cosine of two embeddings times `COSINE_SCALE`.

    Attributes:
        embedder: The bi-encoder.
    """

    embedder: Embedder

    @property
    def fingerprint(self) -> str:
        return combined_fingerprint("cosine", COSINE_SCALE, self.embedder.fingerprint)

    def score(self, left: Sequence[str], right: Sequence[str], progress: Progress | None = None) -> NDArray[np.float64]:
        check_lengths(left, right)
        # Each distinct text is embedded once; sorted, so that swapping the sides changes no batch.
        texts = sorted({*left, *right})
        vectors = self.embedder.embed(texts, progress)
        rows = rows_of([*left, *right], texts)
        left_rows, right_rows = rows[: len(left)], rows[len(left) :]
        scores = np.empty(len(left))
        for part in chunks(len(left), 65_536):
            products = vectors[left_rows[part]].astype(np.float64) * vectors[right_rows[part]]
            scores[part] = products.sum(axis=1)
        return COSINE_SCALE * scores


@dataclass(frozen=True)
class BlendScorer:
    """Weighted sum of scores: `offset + Σ weight · score`.

    Attributes:
        scorers: The members.
        weights: One weight a member, as fitted by `fit_weights`; equal weights give a plain mean.
        offset: Constant term.
    """

    scorers: tuple[Scorer, ...]
    weights: tuple[float, ...]
    offset: float = 0.0

    @property
    def fingerprint(self) -> str:
        return combined_fingerprint("blend", self.weights, self.offset, [scorer.fingerprint for scorer in self.scorers])

    def score(self, left: Sequence[str], right: Sequence[str], progress: Progress | None = None) -> NDArray[np.float64]:
        return self.combine(self.members(left, right, progress))

    def members(
        self,
        left: Sequence[str],
        right: Sequence[str],
        progress: Progress | None = None,
        known: tuple[Scorer, NDArray[np.float64]] | None = None,
    ) -> NDArray[np.float64]:
        """Return the scores of each member.

        Args:
            left, right: n texts each.
            progress: Called with (done, total), total = members · n.
            known: A member and its scores (n,), which are then not computed again.

        Returns:
            float64 (members, n).

        Raises:
            InputError: As raised by a member, such as for unequal lengths.
        """
        n, scores = len(left), []
        for at, scorer in enumerate(self.scorers):
            step_progress = part_of(progress, at * n, n, len(self.scorers) * n)
            scores.append(known[1] if known and scorer == known[0] else scorer.score(left, right, step_progress))
            if step_progress:
                step_progress(n, n)
        return np.stack(scores)

    def combine(self, members: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the weighted sum, float64 (n,), of member scores (members, n)."""
        total = np.full(members.shape[1], self.offset)
        for weight, scores in zip(self.weights, members, strict=True):
            total += weight * scores
        return total


def fit_blend(
    scorers: Sequence[Scorer], left: Sequence[str], right: Sequence[str], labels: NDArray[Any]
) -> BlendScorer:
    """Fit the weights of a blend on n labelled pairs that no member was trained on.

    Raises:
        InputError: As raised by `fit_weights`, or by a scorer.
    """
    members = BlendScorer(tuple(scorers), (1.0,) * len(scorers)).members(left, right)
    weights, offset = fit_weights(members, labels)
    return BlendScorer(tuple(scorers), weights, offset)


def fit_weights(
    members: NDArray[np.float64], labels: NDArray[Any], signed: Collection[int] = ()
) -> tuple[tuple[float, ...], float]:
    """Fit stacking weights by logistic regression (Wolpert 1992).

    Weights are non-negative (Breiman 1996): a member whose weight would be negative gets weight 0.

    Args:
        members: Scores (members, n) of pairs that no member was trained on.
        labels: (n,), 0 or 1.
        signed: Indices of members whose weight may be negative, such as the IDF overlap.

    Returns:
        One weight a member, and the offset; the weighted sum is the log-odds of the regression.

    Raises:
        InputError: The labels are all equal, or no unsigned member scores duplicates higher than distinct pairs.
    """
    if len(np.unique(labels)) < 2:
        raise InputError(
            f"validation pairs must have both labels, got {len(labels)} pairs of one label",
            hint="give pairs of both labels, 0 and 1",
        )
    spread = np.maximum(members.std(axis=1, keepdims=True), 1e-12)
    kept, free = np.arange(len(members)), list(signed)
    while len(np.setdiff1d(kept, free)):
        coefficients, intercept = _fit_logistic((members / spread)[kept].T, labels)
        valid = (coefficients >= 0) | np.isin(kept, free)
        if valid.all():
            weights = np.zeros(len(members))
            weights[kept] = coefficients / spread[kept, 0]
            return tuple(weights.tolist()), intercept
        kept = kept[valid]
    raise InputError(
        "no network scores duplicates higher than distinct pairs here",
        hint="check that label 1 means duplicate, give more validation pairs, or train for longer",
    )


RIDGE = 1e-4
"""Penalty on the squared coefficients: enough for a finite answer where a member separates the labels."""


def _fit_logistic(features: NDArray[np.float64], labels: NDArray[Any]) -> tuple[NDArray[np.float64], float]:
    """Fit a logistic regression with a small ridge penalty.

    Args:
        features: (n, k).
        labels: 0 or 1, (n,).

    Returns:
        Coefficients (k,) and intercept; the intercept is not penalised.
    """
    from scipy.optimize import minimize

    design = np.column_stack([features, np.ones(len(features))])
    sign = np.where(np.asarray(labels) == 1, 1.0, -1.0)
    ridge = np.append(np.full(features.shape[1], RIDGE), 0.0)

    def loss(beta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        margin = sign * (design @ beta)
        slope = -sign * np.exp(-np.logaddexp(0.0, margin))
        value = float(np.logaddexp(0.0, -margin).sum() + (ridge * beta**2).sum() / 2)
        return value / len(sign), (design.T @ slope + ridge * beta) / len(sign)

    start = np.zeros(design.shape[1])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 1000, "gtol": 1e-9, "ftol": 1e-15}).x
    return np.asarray(found[:-1]), float(found[-1])
