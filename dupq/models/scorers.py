"""The small protocols that the rest of dupq speaks to, and what implements them without a network of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dupq.errors import InputError

Progress = Callable[[int, int], None]
"""Called with (done, total) while long work goes on."""

COSINE_SCALE = 20.0
"""A cosine times this is on the scale of a logit; it is also the scale of the losses that train the bi-encoder."""


@runtime_checkable
class Scorer(Protocol):
    """Two texts to one raw score.

    A scorer is symmetric to the last bit, and a pair's score does not depend on the pairs beside it (to 1e-5).
    """

    @property
    def fingerprint(self) -> str:
        """A hash of the weights and settings that make the score."""
        ...

    def score(self, left: Sequence[str], right: Sequence[str], progress: Progress | None = None) -> NDArray[np.float64]:
        """n texts and n texts -> raw logits, float64 array (n,); higher = more alike."""
        ...


@runtime_checkable
class Embedder(Protocol):
    """Texts to unit vectors whose dot product is their likeness."""

    @property
    def fingerprint(self) -> str:
        """A hash of the weights and settings that make the vectors."""
        ...

    @property
    def dimensions(self) -> int:
        """d."""
        ...

    def embed(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        """n texts -> float32 array (n, d), rows of unit length."""
        ...


@dataclass(frozen=True, slots=True)
class UniquePairs:
    """Pairs in canonical order, each once, sorted by text.

    Whatever order the pairs and their two texts came in, the network is handed the same rows in the same batches: this
    is what makes a score symmetric to the last bit, at no cost.

    Attributes:
        left, right: The m distinct pairs; in each, the text that sorts first by code point is the left one.
        inverse: int64 array (n,): which of them each of the n pairs is.
    """

    left: list[str]
    right: list[str]
    inverse: NDArray[np.int64]

    @classmethod
    def of(cls, left: Sequence[str], right: Sequence[str]) -> UniquePairs:
        check_lengths(left, right)
        ordered = [(a, b) if a <= b else (b, a) for a, b in zip(left, right, strict=True)]
        distinct = sorted(set(ordered))
        place = {pair: index for index, pair in enumerate(distinct)}
        inverse = np.fromiter((place[pair] for pair in ordered), np.int64, len(ordered))
        return cls([pair[0] for pair in distinct], [pair[1] for pair in distinct], inverse)


def check_lengths(left: Sequence[str], right: Sequence[str]) -> None:
    """Raises InputError unless both are sequences of as many texts."""
    for side, texts in (("left", left), ("right", right)):
        if isinstance(texts, str):
            raise InputError(f"{side} is one str, not a sequence of texts", mend="give lists, or use score(a, b)")
    if len(left) != len(right):
        raise InputError(f"{len(left)} left texts but {len(right)} right texts", mend="give two of each pair")


def combined_fingerprint(*parts: Any) -> str:
    """A short hash of anything JSON can hold."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def chunks(n: int, size: int) -> Iterator[slice]:
    """Slices of `size` that cover 0..n."""
    for start in range(0, n, size):
        yield slice(start, min(n, start + size))


def part_of(progress: Progress | None, before: int, size: int, total: int) -> Progress | None:
    """The progress of a stage that is `size` of `total`, after `before` of it."""
    return None if progress is None else lambda done, of: progress(before + done * size // max(of, 1), total)


@dataclass(frozen=True)
class CosineScorer:
    """The bi-encoder's score: the cosine of the two embeddings, times `COSINE_SCALE`."""

    embedder: Embedder

    @property
    def fingerprint(self) -> str:
        return combined_fingerprint("cosine", COSINE_SCALE, self.embedder.fingerprint)

    def score(self, left: Sequence[str], right: Sequence[str], progress: Progress | None = None) -> NDArray[np.float64]:
        check_lengths(left, right)
        # Each distinct text is embedded once; sorted, so that swapping the sides changes no batch.
        texts = sorted({*left, *right})
        place = {text: index for index, text in enumerate(texts)}
        vectors = self.embedder.embed(texts, progress)
        rows_left = np.fromiter((place[text] for text in left), np.int64, len(left))
        rows_right = np.fromiter((place[text] for text in right), np.int64, len(right))
        scores = np.empty(len(left))
        for part in chunks(len(left), 65_536):
            products = vectors[rows_left[part]].astype(np.float64) * vectors[rows_right[part]]
            scores[part] = products.sum(axis=1)
        return COSINE_SCALE * scores


@dataclass(frozen=True)
class BlendScorer:
    """A weighted sum of scores: `offset + Σ weight · score`.

    Attributes:
        scorers: Its members.
        weights: One a member, as `fit_blend` learns them, or all equal for a plain mean.
        offset: Added to the sum.
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
        """The members' own scores: float64 array (members, n); `known`: a member that has scored, and its scores."""
        n, scores = len(left), []
        for at, scorer in enumerate(self.scorers):
            told = part_of(progress, at * n, n, len(self.scorers) * n)
            scores.append(known[1] if known and scorer == known[0] else scorer.score(left, right, told))
            if told is not None:  # of a member that tells nothing itself
                told(n, n)
        return np.stack(scores)

    def combine(self, members: NDArray[np.float64]) -> NDArray[np.float64]:
        """Member scores (members, n) -> blended scores (n,)."""
        total = np.full(members.shape[1], self.offset)
        for weight, scores in zip(self.weights, members, strict=True):
            total += weight * scores
        return total


def fit_blend(
    scorers: Sequence[Scorer], left: Sequence[str], right: Sequence[str], labels: NDArray[Any]
) -> BlendScorer:
    """Stacks scorers on pairs, left and right of n texts each, that none of them was trained on; see `fit_weights`."""
    members = BlendScorer(tuple(scorers), (1.0,) * len(scorers)).members(left, right)
    weights, offset = fit_weights(members, labels)
    return BlendScorer(tuple(scorers), weights, offset)


def fit_weights(
    members: NDArray[np.float64], labels: NDArray[Any], signed: Collection[int] = ()
) -> tuple[tuple[float, ...], float]:
    """How to add up the scores of several networks: stacking by logistic regression (Wolpert 1992).

    Args:
        members: Scores (members, n) of pairs that no member was trained on.
        labels: (n,) of 0 and 1.
        signed: Members that may count against the others, as one may that is no network and corrects them.

    Returns:
        Weights, one a member, and the offset, that make of the scores the regression's log-odds. No other weight is
        negative (Breiman 1996): a member that would count against the others has weight 0.

    Raises:
        InputError: No member rises from distinct pairs to duplicates.
    """
    from sklearn.linear_model import LogisticRegression

    spread = np.maximum(members.std(axis=1, keepdims=True), 1e-12)
    kept, free = np.arange(len(members)), list(signed)
    while len(np.setdiff1d(kept, free)):
        fitted = LogisticRegression(C=1e4, max_iter=1000).fit((members / spread)[kept].T, labels)
        fits = (fitted.coef_[0] >= 0) | np.isin(kept, free)
        if fits.all():
            weights = np.zeros(len(members))
            weights[kept] = fitted.coef_[0] / spread[kept, 0]
            return tuple(weights.tolist()), float(fitted.intercept_[0])
        kept = kept[fits]
    raise InputError(
        "no network scores duplicates higher than distinct pairs here",
        mend="check that label 1 means duplicate, give more validation pairs, or train for longer",
    )
