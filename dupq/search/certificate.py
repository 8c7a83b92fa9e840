"""Recall of an approximate search, measured on sampled questions.

An exact search finds all pairs of these questions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dupq.search.pairs import MAX_PAIRS, Rows, SearchGuarantee
from dupq.search.tiles import Tile, TilePairs, WantedPairs, merge_panel, search_tile

Ints = NDArray[np.int64]

BANDS = (0.8, 0.85, 0.9, 0.95)
"""Cosines at which a band of pairs begins; a band below them begins at the threshold."""
RESAMPLES = 1000
MISSED = 0.025
"""Probability that a recall below the interval shows no missed pair in the sample."""


@dataclass(frozen=True, slots=True)
class Recall:
    """Share of the true pairs that a search finds, with its 95 % interval.

    Attributes:
        value: The share; 1 where the sample has no pair.
        low, high: The interval, by a bootstrap over questions (Efron 1979). Where no pair of q questions is missed,
            `low` is that of q draws without a failure, 0.025^(1/q).
        pairs: True pairs in the sample.
        questions: Sampled questions that have a pair.
    """

    value: float
    low: float
    high: float
    pairs: int
    questions: int


@dataclass(frozen=True, eq=False, slots=True)
class TruePairs:
    """All pairs of some questions, found by an exact search.

    The numbers are those of the whole search.

    Attributes:
        left, right, cosine: The pairs, (p,); `left` is the sampled question.
        sampled: Number of sampled questions.
    """

    left: Ints
    right: Ints
    cosine: NDArray[np.float64]
    sampled: int

    def above(self, cosine: float) -> TruePairs:
        """Return the pairs from a cosine on."""
        return self.part(self.cosine >= cosine, self.sampled)

    def part(self, kept: NDArray[np.bool_], sampled: int) -> TruePairs:
        """Return the pairs where `kept` is True, as those of `sampled` questions."""
        return TruePairs(self.left[kept], self.right[kept], self.cosine[kept], sampled)


def true_pairs(vectors: Rows, others: Rows | None, picked: Ints, wanted: WantedPairs, own: Ints | None) -> TruePairs:
    """Compare sampled questions with every row, exactly.

    Args:
        vectors, others: As for `exact.similar_pairs`.
        picked: Rows of `vectors`, int64 (q,).
        wanted: The search whose recall is measured.
        own: For each row of `vectors` its own number in `others`, or a negative number, int64 (n,); None: none is in
            both.
    """
    picked, search = np.sort(picked), true_search(wanted)
    columns, own = (vectors, picked) if others is None else (others, None if own is None else own[picked])
    found = search_tile(vectors[picked], columns, Tile(0, len(picked), 0, len(columns)), search, own=own)
    return named_pairs(merge_panel([found], 0, len(picked), search), picked)


def true_search(wanted: WantedPairs) -> WantedPairs:
    """Return the search of sampled questions among all rows."""
    return replace(wanted, one=False, shared_from=None, max_pairs=max(wanted.max_pairs, MAX_PAIRS))


def named_pairs(found: TilePairs, picked: Ints) -> TruePairs:
    """Return the pairs of a `true_search` in the numbers of the whole search.

    Args:
        found: Its pairs; `left` is the place of a question among the sampled ones.
        picked: Rows of the sampled questions, rising, int64 (q,).
    """
    return TruePairs(picked[found.left], found.right, found.cosine, len(picked))


def measured_recall(true: TruePairs, hit: NDArray[np.bool_], *, seed: int = 0) -> Recall:
    """Return the recall of a search, measured on true pairs.

    Args:
        true: p true pairs of sampled questions.
        hit: True for each pair that was found, bool (p,).
        seed: Seed of the bootstrap.
    """
    if not len(hit):
        return Recall(1.0, 0.0, 1.0, 0, 0)
    _, owner = np.unique(true.left, return_inverse=True)
    wanted = np.bincount(owner).astype(np.float64)
    questions = len(wanted)
    if hit.all():
        return Recall(1.0, MISSED ** (1 / questions), 1.0, len(hit), questions)
    got = np.bincount(owner, hit)
    draw = np.random.default_rng(seed)
    # Questions without a pair count by their number alone: it varies how many of the others are drawn.
    share = np.append(np.full(questions, 1 / true.sampled), max(0.0, 1 - questions / true.sampled))
    drawn = draw.multinomial(true.sampled, share, size=RESAMPLES)[:, :-1]
    totals = drawn @ wanted
    shares = (drawn @ got)[totals > 0] / totals[totals > 0]
    low, high = np.quantile(shares, [MISSED, 1 - MISSED]).tolist()
    return Recall(float(hit.mean()), low, high, len(hit), questions)


def recall_by_band(
    true: TruePairs, hit: NDArray[np.bool_], threshold: float, *, seed: int = 0
) -> dict[tuple[float, float], Recall]:
    """Return the recall of each band of cosine, (lowest, highest) -> recall.

    A band does not include its highest cosine, except for 1.

    Args:
        true, hit, seed: As for `measured_recall`.
        threshold: The lowest cosine of the search, at which the first band begins.
    """
    edges = [threshold, *(edge for edge in BANDS if edge > threshold), 1.0]
    bands = {}
    for low, high in pairwise(edges):
        within = (true.cosine >= low) & ((true.cosine < high) | (high == 1.0))
        bands[low, high] = measured_recall(true.part(within, true.sampled), hit[within], seed=seed)
    return bands


def found_of(true: TruePairs, left: Ints, right: Ints, columns: int, *, one: bool) -> NDArray[np.bool_]:
    """Return True for each true pair that is among the pairs of a result.

    Args:
        true: p true pairs.
        left, right: Pairs of the result, int64 (m,).
        columns: Number of rows that `right` counts.
        one: True within one collection, where the result holds each pair once, with left < right.
    """
    i, j = true.left, true.right
    if one:
        i, j = np.minimum(i, j), np.maximum(i, j)
    return np.isin(i * columns + j, left * columns + right)


def with_recall(guarantee: SearchGuarantee, recall: Recall) -> SearchGuarantee:
    """Return a guarantee that states a measured recall."""
    return replace(
        guarantee,
        exact=False,
        recall=recall.value,
        recall_low=recall.low,
        recall_high=recall.high,
        sampled=recall.pairs,
    )
