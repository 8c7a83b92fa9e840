"""Rows of near misses beside Quora's: those that train, those of validation, and the two sets that measure.

All are of `data_scripts/worlds`. Of each cluster that trains two paraphrases, three near misses and one pair of near
misses are drawn: a third are duplicates, about as of Quora's rows, so that the two training sets differ in what they
teach and not in their base rate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from data_scripts.clusters import (
    HELD_OUT_WORLDS,
    TWO_NEAR_MISSES,
    ClusterPair,
    post_pairs,
    read_clusters,
    world_pairs,
)
from data_scripts.clusters import PARAPHRASE as PARAPHRASE
from dupq.data.pairs import PairTable
from dupq.data.text import normalise

QUORA, MIXED = "quora", "quora+worlds"
TRAININGS = (QUORA, MIXED)
WORLDS, POSTS = "worlds_dev", "posts_dev"
MEASURED = {WORLDS: world_pairs, POSTS: post_pairs}
"""Test sets beside Quora's, and what makes their pairs."""
EACH = {PARAPHRASE: 2, "near miss": 3, TWO_NEAR_MISSES: 1}
"""Pairs of a cluster that train."""
FEW_WORDS = 2
"""So many words differ at most where single words decide."""


@cache
def measured_pairs(name: str) -> tuple[ClusterPair, ...]:
    """The pairs of a test set."""
    return tuple(MEASURED[name](read_clusters(name)))


def table_of(pairs: Sequence[ClusterPair]) -> PairTable:
    left, right = [pair.question1 for pair in pairs], [pair.question2 for pair in pairs]
    return PairTable(left, right, np.array([pair.label for pair in pairs], dtype=np.int8))


def worlds_rows(most: int, *, held_out: bool, times: int = 1) -> PairTable:
    """Pairs of clusters in random order until there are `most`, by a fixed seed.

    Args:
        most: Number of pairs at most.
        held_out: Take the worlds that train nothing.
        times: Factor on the pairs of each cluster.
    """
    clusters = [row for row in read_clusters("worlds_train") if (row["w"] in HELD_OUT_WORLDS) == held_out]
    pairs, taken = list(world_pairs(clusters)), Counter[tuple[int, str]]()
    kept: dict[int, list[ClusterPair]] = {}
    for place in np.random.default_rng(0).permutation(len(pairs)):
        pair = pairs[place]
        kind = pair.kind if pair.kind in EACH else "near miss"
        taken[pair.cluster, kind] += 1
        if taken[pair.cluster, kind] <= times * EACH[kind]:
            kept.setdefault(pair.cluster, []).append(pair)
    return table_of([pair for rows in kept.values() for pair in rows][:most])


def joined(*tables: PairTable) -> PairTable:
    return PairTable(
        [text for table in tables for text in table.left],
        [text for table in tables for text in table.right],
        np.concatenate([table.labels for table in tables]),
    )


def words_differ(pair: ClusterPair) -> int:
    """The number of words of one text that the other lacks, counted on the side that lacks more."""
    one, other = (Counter(normalise(text).split()) for text in (pair.question1, pair.question2))
    return max((one - other).total(), (other - one).total())


def word_overlap(pair: ClusterPair) -> float:
    """Return the Jaccard index of the sets of words of both texts, in [0, 1]."""
    one, other = ({*normalise(text).split()} for text in (pair.question1, pair.question2))
    return len(one & other) / max(len(one | other), 1)


def is_close(pair: ClusterPair) -> bool:
    """True for a near miss of a text in which few words decide."""
    return pair.label == 0 and pair.kind != TWO_NEAR_MISSES and words_differ(pair) <= FEW_WORDS


def kinds(pairs: Sequence[ClusterPair]) -> NDArray[np.str_]:
    return np.array([pair.kind for pair in pairs])


def resampled_groups(groups: NDArray[np.int64], resamples: int) -> NDArray[np.int64]:
    """Number of times that each group is drawn, (resamples, groups); the same for every method."""
    rng, count = np.random.default_rng(0), int(groups.max()) + 1
    return np.array([np.bincount(rng.integers(0, count, count), minlength=count) for _ in range(resamples)])
