"""The k nearest of each row beside all near pairs, against the plain way to find them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dupq.errors import InputError
from dupq.search import exact
from dupq.search.exact import dot, similar_pairs
from dupq.search.kernels import KERNELS, Kernel
from dupq.search.pairs import NearestRows, SimilarPairs
from tests.search.vectors import clustered, unit

Pairs = dict[tuple[int, int], float]


def found(pairs: SimilarPairs) -> Pairs:
    assert len({*zip(pairs.left.tolist(), pairs.right.tolist(), strict=True)}) == len(pairs)
    return dict(zip(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True), pairs.cosine.tolist(), strict=True))


def by_brute_force(
    vectors: NDArray[np.float32],
    others: NDArray[np.float32] | None,
    k: int,
    threshold: float,
    every_from: float,
    shared_from: int | None = None,
) -> Pairs:
    """Sort all columns of each row by falling cosine, then by number."""
    inside = vectors if others is None else others
    wanted: Pairs = {}
    for row in range(len(vectors)):
        self = row if others is None else -1 if shared_from is None else row - shared_from
        cosines = dot(np.repeat(vectors[row : row + 1], len(inside), axis=0), inside)
        order = [at for at in np.lexsort((np.arange(len(inside)), -cosines)).tolist() if at != self]
        for rank, at in enumerate(order):
            if cosines[at] >= threshold and (rank < k or cosines[at] >= every_from):
                start = 0 if others is None else shared_from
                pair = (row, at) if start is None else (min(row, at + start), max(row, at + start) - start)
                wanted[pair] = float(cosines[at])
    return wanted


def with_ties(n: int, seed: int) -> NDArray[np.float32]:
    """Few directions in few dimensions: many rows are equal, and many cosines too."""
    draw = np.random.default_rng(seed)
    return unit(draw.integers(0, 2, size=(n, 4)) + np.eye(4)[draw.integers(0, 4, size=n)])


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "PANEL", 23)
    monkeypatch.setattr(exact, "TILE_ROWS", 7)
    monkeypatch.setattr(exact, "TILE_COLUMNS", 11)


@pytest.mark.parametrize("kernel", KERNELS)
@given(
    n=st.integers(0, 60),
    seed=st.integers(0, 10**6),
    k=st.integers(1, 80),
    threshold=st.floats(0.05, 1),
    every_from=st.floats(0.3, 1),
    ties=st.booleans(),
)
def test_finds_what_sorting_each_row_finds(
    kernel: Kernel, n: int, seed: int, k: int, threshold: float, every_from: float, ties: bool
) -> None:
    vectors = np.zeros((0, 4), np.float32) if not n else with_ties(n, seed) if ties else clustered(n, 12, seed)
    pairs = similar_pairs(vectors, threshold=threshold, neighbours=k, every_from=every_from, kernel=kernel)
    assert found(pairs) == by_brute_force(vectors, None, k, threshold, every_from)
    assert np.all(np.diff(pairs.cosine) <= 0)
    assert pairs.search_guarantee.complete_above == threshold


@given(n=st.integers(0, 40), m=st.integers(0, 40), seed=st.integers(0, 10**6), k=st.integers(1, 9))
def test_between_two_collections_only_rows_of_the_first_have_neighbours(n: int, m: int, seed: int, k: int) -> None:
    both = with_ties(n + m + 1, seed)
    left, right = both[:n], both[n : n + m]
    # The last of the first are the first of the second.
    shared = min(n, m) // 2
    right[:shared] = left[n - shared :]
    pairs = similar_pairs(left, right, threshold=0.1, neighbours=k, every_from=0.9, shared_from=n - shared)
    assert found(pairs) == by_brute_force(left, right, k, 0.1, 0.9, n - shared)


@pytest.mark.parametrize("k", [0, 30])
@given(sizes=st.tuples(st.integers(1, 20), st.integers(1, 20)), shared=st.integers(1, 20), most=st.integers(1, 40))
def test_rows_of_both_collections_take_no_place_twice(k: int, sizes: tuple[int, int], shared: int, most: int) -> None:
    n, m = sizes
    shared = min(n, m, shared)
    rows, start = clustered(n + m - shared, 12, seed=n), n - shared
    options = {"threshold": 0.1, "neighbours": k, "shared_from": start}
    every = found(similar_pairs(rows[:n], rows[start:], **options))  # type: ignore[arg-type]
    assert all(row < column + start for row, column in every)
    cut = similar_pairs(rows[:n], rows[start:], max_pairs=most, **options)  # type: ignore[arg-type]
    assert len(cut) == min(most, len(every))
    assert cut.search_guarantee.dropped <= len(every) - len(cut)
    assert bool(cut.search_guarantee.dropped) == (len(every) > most)
    assert found(cut) == dict(sorted(every.items(), key=lambda pair: (-pair[1], pair[0]))[:most])


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 5), (64, 64, 64)])
def test_blocks_of_any_size_give_one_result(monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int, int]) -> None:
    vectors = with_ties(50, seed=4)
    whole = similar_pairs(vectors, threshold=0.2, neighbours=4, every_from=0.95)
    for name, size in zip(("TILE_ROWS", "TILE_COLUMNS", "PANEL"), shape, strict=True):
        monkeypatch.setattr(exact, name, size)
    again = similar_pairs(vectors, threshold=0.2, neighbours=4, every_from=0.95)
    assert found(again) == found(whole)
    assert again.left.tolist() == whole.left.tolist()


@given(seed=st.integers(0, 10**6), k=st.integers(1, 6))
def test_the_order_of_rows_does_not_matter_without_ties(seed: int, k: int) -> None:
    vectors = clustered(40, 12, seed)
    order = np.random.default_rng(seed).permutation(40)
    one = found(similar_pairs(vectors, threshold=0.1, neighbours=k, every_from=0.8))
    other = found(similar_pairs(vectors[order], threshold=0.1, neighbours=k, every_from=0.8))
    assert {frozenset(order[[*pair]].tolist()) for pair in other} == {frozenset(pair) for pair in one}


def test_fifty_near_copies_are_all_found_beyond_the_nearest() -> None:
    vectors = unit(np.ones((1, 8)) + 0.01 * np.random.default_rng(0).standard_normal((50, 8)))
    assert len(similar_pairs(vectors, threshold=0.4, neighbours=3, every_from=0.8)) == 50 * 49 // 2


@pytest.mark.parametrize("kernel", KERNELS)
def test_no_more_pairs_are_computed_than_a_few_times_the_nearest_of_each_row(
    monkeypatch: pytest.MonkeyPatch, kernel: Kernel
) -> None:
    computed = 0

    def counted(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float64]:
        nonlocal computed
        computed += len(left)
        return dot(left, right)

    monkeypatch.setattr(exact, "dot", counted)
    monkeypatch.setattr(exact, "TILE_COLUMNS", 100)
    vectors = clustered(400, 24, seed=0)
    pairs = similar_pairs(vectors, threshold=0.01, neighbours=3, every_from=1.0, kernel=kernel)
    assert len(pairs) <= 400 * 3 <= computed <= 400 * 3 * 8
    computed = 0
    assert len(similar_pairs(vectors, threshold=0.01, kernel=kernel)) > 10 * len(pairs)
    assert computed > 400 * 3 * 20


@given(seed=st.integers(0, 10**6), most=st.integers(1, 120))
def test_too_many_pairs_keep_the_strongest_and_state_it(seed: int, most: int) -> None:
    vectors = with_ties(40, seed) if seed % 2 else clustered(40, 8, seed)
    truth = by_brute_force(vectors, None, 3, 0.2, 0.9)
    pairs = similar_pairs(vectors, threshold=0.2, neighbours=3, every_from=0.9, max_pairs=most)
    strongest = sorted(truth.items(), key=lambda pair: (-pair[1], pair[0]))[:most]
    assert [*found(pairs).items()] == strongest
    guarantee = pairs.search_guarantee
    assert {pair for pair, cosine in truth.items() if cosine >= guarantee.complete_above} <= {*found(pairs)}
    assert guarantee.truncated == (len(truth) > most)
    assert ("nearest of a question" in str(guarantee)) == (guarantee.complete_above < 0.9)


def test_an_interrupted_scan_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "CHECKPOINT_SECONDS", -1.0)
    vectors = clustered(90, 10, seed=2)
    options: dict[str, Any] = {"threshold": 0.1, "neighbours": 4, "every_from": 0.8}
    whole = similar_pairs(vectors, **options)
    seen: list[int] = []

    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        similar_pairs(vectors, **options, resume=tmp_path / "scan", progress=stop)
    again = similar_pairs(vectors, **options, resume=tmp_path / "scan", progress=lambda done, _: seen.append(done))
    assert seen[0] > 23 * 90  # the first panel was not scanned twice
    assert seen[-1] == 90 * 90
    assert found(again) == found(whole)
    assert again.search_guarantee == replace(whole.search_guarantee, rescored=again.search_guarantee.rescored)
    for other in ({"neighbours": 5}, {"every_from": 0.7}, {"neighbours": 0}):
        with pytest.raises(InputError, match="belongs to another search"):
            similar_pairs(vectors, **{**options, **other}, resume=tmp_path / "scan")


def test_a_row_of_zeros_is_no_neighbour() -> None:
    vectors = np.concatenate([np.zeros((3, 4), np.float32), unit(np.ones((2, 4)))])
    assert {*found(similar_pairs(vectors, threshold=0.01, neighbours=9))} == {(3, 4)}


@given(seed=st.integers(0, 10**6), k=st.integers(1, 12), parts=st.integers(1, 9))
def test_the_nearest_columns_do_not_depend_on_the_order_of_adding(seed: int, k: int, parts: int) -> None:
    draw = np.random.default_rng(seed)
    row, column = (at.ravel() for at in np.indices((5, 11)))
    cosine = draw.integers(-3, 8, size=55) / 8
    nearest, order = NearestRows(5, k, 0.25), draw.permutation(55)
    for part in np.array_split(order, parts):
        nearest.add(row[part], column[part], cosine[part])
    kept = {*zip(*(values.tolist() for values in nearest.columns()), strict=True)}
    for at in range(5):
        wanted = sorted(((-c, j) for j, c in enumerate(cosine[11 * at : 11 * at + 11].tolist()) if c >= 0.25))[:k]
        assert {(j, -c) for c, j in wanted} == {(j, c) for i, j, c in kept if i == at}
