"""Any tiling of a search gives the pairs of one scan, to the last bit."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dupq.errors import InputError
from dupq.search import exact
from dupq.search.exact import similar_pairs
from dupq.search.kernels import KERNELS, Kernel
from dupq.search.pairs import SimilarPairs
from dupq.search.tiles import TilePairs, WantedPairs, merge_pairs, merge_panel, plan_tiles, search_tile
from tests.search.vectors import clustered, unit

Vectors = NDArray[np.float32]


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "PANEL", 23)
    monkeypatch.setattr(exact, "TILE_ROWS", 7)
    monkeypatch.setattr(exact, "TILE_COLUMNS", 11)


def with_ties(n: int, seed: int) -> Vectors:
    draw = np.random.default_rng(seed)
    return unit(draw.integers(0, 2, size=(n, 4)) + np.eye(4)[draw.integers(0, 4, size=n)])


def in_tiles(
    left: Vectors,
    right: Vectors | None,
    wanted: WantedPairs,
    *,
    align: int = 1,
    products: int = 200,
    kernel: Kernel = "float32",
    seed: int = 0,
) -> SimilarPairs:
    """Search all tiles in any order, each through its bytes, and merge them."""
    inside = left if right is None else right
    tiles = list(plan_tiles(len(left), len(inside), wanted, align=align, products=products))
    random.Random(seed).shuffle(tiles)
    panels: dict[tuple[int, int], list[bytes]] = defaultdict(list)
    for tile in tiles:
        rows, columns = slice(tile.first_row, tile.last_row), slice(tile.first_column, tile.last_column)
        start = wanted.shared_from
        own = None if start is None else np.arange(tile.first_row, tile.last_row) - start
        found = search_tile(left[rows], inside[columns], tile, wanted, own=own, kernel=kernel)
        panels[tile.first_row, tile.last_row].append(found.to_bytes())
    merged = [merge_panel(map(TilePairs.from_bytes, found), *panel, wanted) for panel, found in panels.items()]
    return merge_pairs([TilePairs.from_bytes(panel.to_bytes()) for panel in merged], len(left), len(inside), wanted)


def assert_same(tiled: SimilarPairs, scanned: SimilarPairs) -> None:
    assert tiled.left.tolist() == scanned.left.tolist()
    assert tiled.right.tolist() == scanned.right.tolist()
    assert tiled.cosine.tobytes() == scanned.cosine.tobytes()
    counted = {"rescored": 0, "method": ""}
    assert replace(tiled.search_guarantee, **counted) == replace(scanned.search_guarantee, **counted)


@pytest.mark.parametrize("kernel", KERNELS)
@given(
    n=st.integers(0, 70),
    m=st.none() | st.integers(0, 60),
    seed=st.integers(0, 10**6),
    neighbours=st.integers(0, 9) | st.integers(50, 90),
    threshold=st.floats(0.05, 1),
    every_from=st.floats(0.3, 1),
    max_pairs=st.integers(1, 60) | st.just(10**6),
    align=st.sampled_from([1, 4, 16]),
    products=st.integers(1, 3000),
    ties=st.booleans(),
)
def test_any_tiling_gives_the_pairs_of_one_scan(
    kernel: Kernel,
    n: int,
    m: int | None,
    seed: int,
    neighbours: int,
    threshold: float,
    every_from: float,
    max_pairs: int,
    align: int,
    products: int,
    ties: bool,
) -> None:
    total = n + (m or 0) + 1
    both = with_ties(total, seed) if ties else clustered(total, 12, seed)
    left, right, shared_from = both[:n], None, None
    if m is not None:
        # The last of the first are the first of the second.
        right, shared = both[n : n + m], min(n, m) // 2
        right[:shared] = left[n - shared :]
        shared_from = n - shared if shared else None
    wanted = WantedPairs(threshold, neighbours, every_from, max_pairs, one=m is None, shared_from=shared_from)
    products = max(products, n * (m or n) // 60)
    tiled = in_tiles(left, right, wanted, align=align, products=products, kernel=kernel, seed=seed)
    scanned = similar_pairs(
        left,
        right,
        threshold=threshold,
        neighbours=neighbours,
        every_from=every_from,
        shared_from=shared_from,
        max_pairs=max_pairs,
        kernel=kernel,
    )
    assert_same(tiled, scanned)
    lost = tiled.search_guarantee.dropped
    every = similar_pairs(
        left, right, threshold=threshold, neighbours=neighbours, every_from=every_from, shared_from=shared_from
    )
    assert bool(lost) == (len(every) > max_pairs)
    assert lost <= len(every) - len(tiled)


def test_a_tile_that_drops_pairs_makes_the_whole_incomplete() -> None:
    vectors = unit(np.ones((1, 8)) + 0.01 * np.random.default_rng(0).standard_normal((50, 8)))
    wanted = WantedPairs(0.5, 0, 1.0, 20, one=True)
    tiled = in_tiles(vectors, None, wanted, products=10**6)
    assert tiled.search_guarantee.truncated
    assert tiled.search_guarantee.dropped > 0
    assert_same(tiled, similar_pairs(vectors, threshold=0.5, max_pairs=20))


def test_equal_tiles_have_equal_bytes() -> None:
    vectors, wanted = clustered(40, 8, 3), WantedPairs(0.2, 3, 0.8, 100, one=True)
    tile = next(plan_tiles(40, 40, wanted))
    first, again = (search_tile(vectors, vectors, tile, wanted).to_bytes() for _ in range(2))
    assert first == again


def test_tiles_cover_each_pair_once_and_leave_out_what_lies_below_the_diagonal() -> None:
    for wanted in (WantedPairs(0.5, 0, 1.0, 9, one=True), WantedPairs(0.5, 3, 1.0, 9, one=True)):
        seen = np.zeros((100, 100), int)
        tiles = list(plan_tiles(100, 100, wanted, align=8, products=512))
        for tile in tiles:
            assert tile.first_row % 8 == 0
            seen[tile.first_row : tile.last_row, tile.first_column : tile.last_column] += 1
        assert seen.max() == 1
        assert seen[np.triu_indices(100, 1)].min() == 1
        assert (seen.min() == 0) == wanted.triangle


def test_a_row_that_is_no_unit_vector_is_refused() -> None:
    vectors, wanted = clustered(10, 8, 3), WantedPairs(0.2, 0, 0.8, 100, one=True)
    vectors[4] *= 2
    with pytest.raises(InputError, match="length 2"):
        search_tile(vectors, vectors, next(plan_tiles(10, 10, wanted)), wanted)
