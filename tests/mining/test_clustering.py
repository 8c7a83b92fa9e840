from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.cluster import AgglomerativeClustering

from benchmarks.forum.groups import pairwise_quality
from dupq.errors import InputError
from dupq.mining.clustering import LINKAGES, Linkage, duplicate_groups

Pairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]


def table(rows: list[tuple[int, int, float]]) -> Pairs:
    left, right, p = zip(*rows, strict=True) if rows else ((), (), ())
    return np.array(left, np.int64), np.array(right, np.int64), np.array(p, np.float64)


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, list[tuple[int, int, float]]]:
    n = draw(st.integers(0, 12))
    possible = list(itertools.combinations(range(n), 2))
    kept = [pair for pair in possible if draw(st.booleans())]
    # Few distinct values, so that ties are common.
    return n, [(a, b, draw(st.sampled_from([0.1, 0.4, 0.5, 0.6, 0.7, 0.9, 0.95]))) for a, b in kept]


@st.composite
def two_collections(draw: st.DrawFn) -> tuple[int, list[tuple[int, int, float]], NDArray[np.int64]]:
    """A graph between a new collection and an old one, with the side of each question; one side is one collection."""
    n, rows = draw(graphs())
    sides = draw(st.sampled_from([[1], [0, 2], [0, 1, 2]]))
    side = np.array([draw(st.sampled_from(sides)) for _ in range(n)], np.int64)
    return n, [row for row in rows if comparable(side, *row[:2])], side


def comparable(side: NDArray[np.int64], a: int, b: int) -> bool:
    return bool(side[a] != side[b] or side[a] == 1)


@given(two_collections(), st.sampled_from(LINKAGES), st.randoms(use_true_random=False))
def test_the_order_of_pairs_and_questions_does_not_matter(graph, linkage: Linkage, random) -> None:  # type: ignore[no-untyped-def]
    n, rows, side = graph
    plain = duplicate_groups(n, *table(rows), threshold=0.5, linkage=linkage, side=side)
    shuffled = [(b, a, p) if random.random() < 0.5 else (a, b, p) for a, b, p in rows]
    random.shuffle(shuffled)
    assert duplicate_groups(n, *table(shuffled), threshold=0.5, linkage=linkage, side=side) == plain
    # Now the questions themselves are numbered otherwise; their rank identifies them.
    number = list(range(n))
    random.shuffle(number)
    rank = np.empty(n, np.int64)
    rank[number] = np.arange(n)
    renamed = [(number[a], number[b], p) for a, b, p in shuffled]
    other = duplicate_groups(n, *table(renamed), threshold=0.5, linkage=linkage, order=rank, side=side[rank])
    assert [tuple(int(rank[at]) for at in group) for group in other.members] == list(plain.members)
    assert other.min_probability == plain.min_probability


@given(two_collections())
def test_complete_linkage_joins_only_what_agrees_throughout(graph) -> None:  # type: ignore[no-untyped-def]
    n, rows, side = graph
    p = {(a, b): value for a, b, value in rows}
    clustering = duplicate_groups(n, *table(rows), threshold=0.5, linkage="complete", side=side)
    for group, min_probability in zip(clustering.members, clustering.min_probability, strict=True):
        values = [p[pair] for pair in itertools.combinations(sorted(group), 2) if comparable(side, *pair)]
        assert min(values) == min_probability >= 0.5


@given(two_collections(), st.sampled_from(["average", "complete"]))
def test_no_two_groups_that_should_join_are_left(graph, linkage: Linkage) -> None:  # type: ignore[no-untyped-def]
    n, rows, side = graph
    p = {(a, b): value for a, b, value in rows}
    labels = duplicate_groups(n, *table(rows), threshold=0.5, linkage=linkage, side=side).labels(n)
    groups = [np.flatnonzero(labels == label).tolist() for label in np.unique(labels)]
    for one, other in itertools.combinations(groups, 2):
        values = [p.get((min(a, b), max(a, b)), 0.0) for a in one for b in other if comparable(side, a, b)]
        if values:
            assert (np.mean(values) if linkage == "average" else min(values)) < 0.5 + 1e-12


@pytest.mark.parametrize("linkage", LINKAGES)
def test_pairs_of_one_of_two_collections_do_not_keep_groups_apart(linkage: Linkage) -> None:
    side = np.array([0, 2, 2, 2])
    star = table([(0, old, 0.9) for old in (1, 2, 3)])
    assert duplicate_groups(4, *star, threshold=0.5, linkage=linkage, side=side).members == ((0, 1, 2, 3),)
    # A pair that can be compared and is no candidate does: question 4 is new, and near the last old one alone.
    chain, side = table([(0, 1, 0.9), (0, 2, 0.9), (0, 3, 0.9), (3, 4, 0.6)]), np.array([0, 2, 2, 2, 0])
    together = linkage == "connected"
    groups = duplicate_groups(5, *chain, threshold=0.5, linkage=linkage, side=side)
    assert [set(group) for group in groups.members] == [{0, 1, 2, 3, 4} if together else {0, 1, 2, 3}]


@pytest.mark.parametrize("linkage", ["average", "complete"])
@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_scikit_learn_on_full_graphs(linkage: Linkage, seed: int) -> None:
    draw = np.random.default_rng(seed)
    n = 40
    points = draw.standard_normal((n, 3)) + 2 * draw.integers(4, size=(n, 1))
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    similarity = np.exp(-distance)
    left, right = np.triu_indices(n, 1)
    found = duplicate_groups(n, left, right, similarity[left, right], threshold=0.15, linkage=linkage).labels(n)
    reference = AgglomerativeClustering(
        n_clusters=None, distance_threshold=0.85, metric="precomputed", linkage=linkage
    ).fit_predict(1 - similarity)
    assert pairwise_quality(found, reference)["f1"] == 1.0


def test_a_chain_stays_apart() -> None:
    chain = [(at, at + 1, 0.9) for at in range(9)]
    assert len(duplicate_groups(10, *table(chain), threshold=0.5, linkage="connected").members[0]) == 10
    for linkage in ("average", "complete"):
        groups = duplicate_groups(10, *table(chain), threshold=0.5, linkage=linkage)
        assert max(len(group) for group in groups.members) == 2


def test_one_wrong_pair_does_not_join_two_groups() -> None:
    cliques = [(a, b, 0.9) for start in (0, 5) for a, b in itertools.combinations(range(start, start + 5), 2)]
    groups = duplicate_groups(10, *table([*cliques, (4, 5, 0.85)]), threshold=0.5)
    assert sorted(sorted(group) for group in groups.members) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert groups.min_probability == (0.9, 0.9)


def test_the_most_central_question_comes_first() -> None:
    star = table([(0, 1, 0.9), (1, 2, 0.9), (0, 2, 0.6)])
    assert duplicate_groups(3, *star, threshold=0.5).members == ((1, 0, 2),)


def test_the_weakest_pair_counts_pairs_below_the_threshold() -> None:
    groups = duplicate_groups(3, *table([(0, 1, 0.9), (1, 2, 0.9), (0, 2, 0.3)]), threshold=0.5)
    assert groups.members == ((1, 0, 2),)
    assert groups.min_probability == (0.3,)


@pytest.mark.parametrize(
    ("rows", "change", "told"),
    [
        ([(0, 1, 0.9), (1, 0, 0.8)], {}, "given twice"),
        ([(1, 1, 0.9)], {}, "with itself"),
        ([(0, 1, 0.9)], {"threshold": 0.0}, "threshold"),
        ([(0, 1, 0.9)], {"linkage": "single"}, "linkage must be one of average, complete, connected"),
    ],
)
def test_bad_input_is_one_clear_error(rows, change, told) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=told):
        duplicate_groups(3, *table(rows), **{"threshold": 0.5, **change})


def test_pairwise_quality_counts_pairs() -> None:
    quality = pairwise_quality(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]))
    assert quality["precision"] == pytest.approx(1 / 3)
    assert quality["recall"] == pytest.approx(1 / 2)
    assert quality["f1"] == pytest.approx(0.4)
    assert quality["largest_found"] == 3
