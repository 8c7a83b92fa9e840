"""Search by overlapping cells: against the exact search, and its recall against a count."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dupq.errors import InputError
from dupq.search import cells, kmeans
from dupq.search.cells import CellMerge, CellPlan, cell_pairs, plan_cells, search_cells
from dupq.search.certificate import Recall, TruePairs, measured_recall, recall_by_band
from dupq.search.exact import similar_pairs
from dupq.search.kmeans import assigned, cell_counts, fit_cells, nearest_cells
from dupq.search.pairs import SimilarPairs
from dupq.search.tiles import TilePairs, WantedPairs
from dupq.search.vectors import StoredRows
from tests.search.vectors import clustered, unit

Pairs = dict[tuple[int, int], float]


def found(pairs: SimilarPairs | TilePairs) -> Pairs:
    keys = [*zip(pairs.left.tolist(), pairs.right.tolist(), strict=True)]
    assert len({*keys}) == len(keys)
    return dict(zip(keys, pairs.cosine.tolist(), strict=True))


def with_ties(n: int, seed: int) -> NDArray[np.float32]:
    """Few directions in few dimensions, and a few rows of zeros."""
    draw = np.random.default_rng(seed)
    rows = unit(draw.integers(0, 2, size=(n, 4)) + np.eye(4)[draw.integers(0, 4, size=n)])
    rows[draw.random(n) < 0.1] = 0
    return rows


def planted(n: int, seed: int = 0) -> NDArray[np.float32]:
    """Unit vectors, every tenth of them a near copy of the one before it."""
    draw = np.random.default_rng(seed)
    rows = clustered(n, 32, seed, spread=2.0)
    rows[9::10] = unit(rows[8::10][: len(rows[9::10])] + 0.08 * draw.standard_normal(rows[9::10].shape))
    return rows


# ---- against the exact search ---------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    n=st.integers(0, 60),
    seed=st.integers(0, 10**6),
    count=st.integers(1, 20),
    neighbours=st.integers(0, 6),
    threshold=st.floats(0.05, 1),
    every_from=st.floats(0.3, 1),
    max_pairs=st.sampled_from([1, 5, 40, 10**6]),
    ties=st.booleans(),
)
def test_with_every_cell_it_finds_what_the_exact_search_finds(
    n: int, seed: int, count: int, neighbours: int, threshold: float, every_from: float, max_pairs: int, ties: bool
) -> None:
    vectors = np.zeros((0, 4), np.float32) if not n else with_ties(n, seed) if ties else clustered(n, 12, seed)
    wanted = {
        "threshold": threshold,
        "neighbours": neighbours,
        "every_from": every_from,
        "max_pairs": max_pairs,
    }
    pairs = cell_pairs(vectors, cells=count, overlap=count, seed=seed, **wanted)  # type: ignore[arg-type]
    exact = similar_pairs(vectors, **wanted)  # type: ignore[arg-type]
    assert found(pairs) == found(exact)
    guarantee = pairs.search_guarantee
    assert guarantee.complete_above == exact.search_guarantee.complete_above
    assert guarantee.recall == 1
    assert not guarantee.exact


@settings(deadline=None)
@given(
    sizes=st.tuples(st.integers(0, 40), st.integers(0, 40)),
    both=st.integers(0, 10),
    seed=st.integers(0, 10**6),
    count=st.integers(1, 12),
    neighbours=st.integers(0, 5),
    threshold=st.floats(0.05, 1),
    max_pairs=st.sampled_from([3, 10**6]),
    ties=st.booleans(),
)
def test_between_two_collections(
    sizes: tuple[int, int],
    both: int,
    seed: int,
    count: int,
    neighbours: int,
    threshold: float,
    max_pairs: int,
    ties: bool,
) -> None:
    left, right = sizes
    both = min(both, left, right)
    rows = (with_ties if ties else clustered)(left + right - both, *(() if ties else (8,)), seed)  # type: ignore[operator]
    vectors, others = rows[:left], rows[left - both :]
    wanted = {"threshold": threshold, "neighbours": neighbours, "every_from": 0.9, "max_pairs": max_pairs}
    wanted |= {"shared_from": left - both} if both else {}
    pairs = cell_pairs(vectors, others, cells=count, overlap=count, **wanted)  # type: ignore[arg-type]
    assert found(pairs) == found(similar_pairs(vectors, others, **wanted))  # type: ignore[arg-type]


def test_recall_rises_with_the_overlap_and_is_the_one_that_is_stated() -> None:
    vectors = clustered(1200, 16, seed=1)
    exact = similar_pairs(vectors, threshold=0.6)
    true, shares = found(exact), []
    for overlap in (1, 2, 4, 8, 16):
        pairs = cell_pairs(vectors, threshold=0.6, cells=60, overlap=overlap, target=0.01)
        assert found(pairs).items() <= true.items()
        shares.append(len(pairs) / len(exact))
        guarantee = pairs.search_guarantee
        assert guarantee.recall_low <= guarantee.recall <= guarantee.recall_high
        # Half of all rows are the sample.
        assert guarantee.recall == pytest.approx(shares[-1], abs=0.03)
        assert guarantee.compared < 2 * overlap / 60 * 1200 * 1199 / 2 * 2
    assert shares == sorted(shares)
    assert shares[0] < 0.9 < 0.99 < shares[-1]


def test_it_finds_most_neighbours() -> None:
    vectors = clustered(900, 16, seed=3)
    exact = similar_pairs(vectors, threshold=0.3, neighbours=5, every_from=0.8)
    pairs = cell_pairs(vectors, threshold=0.3, neighbours=5, every_from=0.8, cells=30)
    assert pairs.search_guarantee.recall >= 0.99
    assert len(found(exact).keys() & found(pairs).keys()) >= 0.98 * len(exact)
    assert pairs.search_guarantee.neighbours == 5


def test_rows_in_a_file(tmp_path: Path) -> None:
    vectors = planted(500)
    (tmp_path / "rows").write_bytes(vectors.tobytes())
    stored = StoredRows(tmp_path / "rows", (500, 32))
    assert found(cell_pairs(stored, threshold=0.8)) == found(cell_pairs(vectors, threshold=0.8))


# ---- the certificate ------------------------------------------------------------------------------------------------


def test_planted_near_copies_are_certified() -> None:
    vectors = planted(4000)
    reported: list[tuple[int, int]] = []
    pairs = cell_pairs(vectors, threshold=0.8, sample=500, progress=lambda done, total: reported.append((done, total)))
    guarantee = pairs.search_guarantee
    assert len({(8 + 10 * at, 9 + 10 * at) for at in range(400)} & found(pairs).keys()) > 0.98 * 400
    assert guarantee.recall >= 0.99
    assert 0.9 < guarantee.recall_low < guarantee.recall_high <= 1
    assert guarantee.sampled
    assert guarantee.compared < 4000 * 3999 / 4
    assert "K = 126" in guarantee.method
    assert "overlap m = " in guarantee.method
    assert reported[-1][0] == reported[-1][1] == guarantee.compared


def test_a_recall_below_the_target_is_refused_before_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "search_cells", None)
    with pytest.raises(
        InputError, match=r"must be at least 0.99, got 0\.\d{4} \(95 % interval .* K = 60 .* m = 1"
    ) as error:
        cell_pairs(clustered(1200, 16, seed=1), threshold=0.6, cells=60, overlap=1)
    assert "m = 2" in str(error.value.hint)
    assert "K = 30" in str(error.value.hint)


def test_the_overlap_is_the_smallest_that_reaches_the_target() -> None:
    vectors = clustered(1200, 16, seed=1)
    wanted = WantedPairs(0.6, 0, 1.0, 10**6, one=True)
    chosen = [plan_cells(vectors, None, wanted, cells=60, target=target).overlap for target in (0.3, 0.8, 0.98)]
    assert chosen == sorted(chosen)
    assert chosen[0] < chosen[-1]
    plan = plan_cells(vectors, None, wanted, cells=60, target=0.9)
    assert [*plan.bands] == [(0.6, 0.8), (0.8, 0.85), (0.85, 0.9), (0.9, 0.95), (0.95, 1.0)]
    assert sum(band.pairs for band in plan.bands.values()) == plan.recall.pairs == len(plan.true.left)


def true_of(left: list[int], cosine: list[float], sampled: int) -> TruePairs:
    return TruePairs(np.array(left), np.arange(len(left)), np.array(cosine), sampled)


def test_an_interval_is_never_certain() -> None:
    assert measured_recall(true_of([], [], 5), np.zeros(0, bool)) == Recall(1, 0, 1, 0, 0)
    whole = measured_recall(true_of([0, 0, 1], [0.9] * 3, 5), np.ones(3, bool))
    assert whole == Recall(1.0, pytest.approx(0.025**0.5), 1.0, 3, 2)
    assert measured_recall(true_of([0, 0, 1], [0.9] * 3, 5), np.zeros(3, bool)).value == 0
    # All misses belong to one question, so that the interval is wider than that of single pairs.
    left, hit = np.repeat(np.arange(100), 5), np.ones(500, bool)
    hit[:5] = False
    true = TruePairs(left, np.arange(500), np.full(500, 0.9), 100)
    clumped = measured_recall(true, hit)
    spread = measured_recall(true, np.roll(hit, 3).reshape(5, 100).T.ravel())
    assert clumped.value == spread.value == 0.99
    assert clumped.low < spread.low
    assert clumped.questions == 100


@given(seed=st.integers(0, 1000), sampled=st.integers(200, 400))
@settings(deadline=None, max_examples=20)
def test_an_interval_holds_the_share_that_it_was_drawn_with(seed: int, sampled: int) -> None:
    draw = np.random.default_rng(seed)
    left = np.sort(draw.integers(200, size=600))
    recall = measured_recall(TruePairs(left, left, np.full(600, 0.9), sampled), draw.random(600) < 0.95)
    assert recall.low <= recall.value <= recall.high
    assert recall.low > 0.88
    assert 0.01 < recall.high - recall.low < 0.08


def test_bands_begin_at_the_threshold() -> None:
    true = true_of([0, 0, 1, 1, 2], [0.82, 0.86, 0.951, 1.0000001, 0.949], 3)
    bands = recall_by_band(true, np.array([True, False, True, True, False]), 0.82)
    assert {edges: (band.value, band.pairs) for edges, band in bands.items()} == {
        (0.82, 0.85): (1, 1),
        (0.85, 0.9): (0, 1),
        (0.9, 0.95): (0, 1),
        (0.95, 1.0): (1, 2),
    }


# ---- cells ----------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(n=st.integers(1, 50), count=st.integers(1, 12), m=st.integers(1, 14), seed=st.integers(0, 10**6))
def test_a_row_has_the_same_cells_in_every_batch(n: int, count: int, m: int, seed: int) -> None:
    rows = with_ties(n, seed)
    centroids = fit_cells(rows, count, seed=seed)
    whole = nearest_cells(rows, centroids, m)
    assert whole.shape == (n, min(m, len(centroids)))
    alone = [nearest_cells(rows[at : at + 1], centroids, m) for at in range(n)]
    assert np.array_equal(whole, np.concatenate(alone))
    exact = np.einsum("id,jd->ij", rows.astype(np.float64), centroids.astype(np.float64))
    for row, found_cells in zip(range(n), whole.tolist(), strict=True):
        if not rows[row].any():
            assert {*found_cells} <= {-1}
        else:
            assert len({*found_cells}) == len(found_cells)
            assert exact[row, found_cells] == pytest.approx(np.sort(exact[row])[::-1][: whole.shape[1]], abs=1e-12)
    counts = cell_counts(whole, len(centroids))
    assert counts.sum() == (whole >= 0).sum()
    assert np.array_equal(
        counts, cell_counts(whole[: n // 2], len(centroids)) + cell_counts(whole[n // 2 :], len(centroids))
    )


def test_fewer_rows_than_cells_equal_rows_and_no_rows() -> None:
    few = clustered(5, 8, seed=0)
    assert fit_cells(few, 40).shape == (5, 8)
    assert fit_cells(np.zeros((4, 8), np.float32), 3).shape == (0, 8)
    assert fit_cells(np.zeros((0, 8), np.float32), 3).shape == (0, 8)
    equal = np.repeat(few[:1], 30, axis=0)
    assert len(cell_pairs(equal, threshold=0.9, cells=7)) == 30 * 29 // 2
    assert len(cell_pairs(np.zeros((30, 4), np.float32), threshold=0.5)) == 0
    assert len(cell_pairs(np.zeros((0, 4), np.float32), threshold=0.5)) == 0
    assert len(cell_pairs(few, np.zeros((0, 8), np.float32), threshold=0.5)) == 0
    opposite = unit(np.array([[1.0, 0], [-1, 0], [1, 1e-9], [-1, 0]]))
    assert found(cell_pairs(opposite, threshold=0.5, cells=1, overlap=1)).keys() == {(0, 2), (1, 3)}


def test_centroids_are_of_unit_length_and_better_than_rows() -> None:
    vectors = clustered(3000, 16, seed=4)
    centroids = fit_cells(vectors, 50, seed=1)
    assert np.allclose(np.linalg.norm(centroids, axis=1), 1, atol=1e-6)
    drawn = vectors[np.random.default_rng(1).permutation(3000)[:50]]
    near = [float(np.max(vectors @ cells.T, axis=1).mean()) for cells in (centroids, drawn)]
    assert near[0] > near[1] + 0.02


def test_it_is_deterministic_for_a_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = clustered(1500, 16, seed=5)
    one, two, other = (fit_cells(vectors, 40, seed=seed) for seed in (0, 0, 1))
    assert one.tobytes() == two.tobytes() != other.tobytes()
    first = cell_pairs(vectors, threshold=0.5, cells=40, target=0.5)
    monkeypatch.setattr(cells, "GROUP_PRODUCTS", 5000)
    monkeypatch.setattr(cells, "SCAN", 100)
    second = cell_pairs(vectors, threshold=0.5, cells=40, target=0.5)
    assert found(first) == found(second)
    assert first.search_guarantee == second.search_guarantee


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": 0}, "target must be a number in"),
        ({"cells": 0}, "cells must be an integer"),
        ({"overlap": 0}, "overlap must be an integer between 1 and 16"),
        ({"overlap": 17}, "overlap must be an integer between 1 and 16"),
        ({"sample": 0}, "sample must be an integer"),
        ({"seed": -1}, "seed must be an integer"),
        ({"threshold": 0}, "threshold must be a number"),
    ],
)
def test_bad_options_are_one_clear_error(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        cell_pairs(clustered(30, 8, seed=0), **{"threshold": 0.5, "cells": 4, **options})  # type: ignore[arg-type]


def test_a_row_that_is_not_of_unit_length_is_refused() -> None:
    vectors = 2 * clustered(30, 8, seed=0)
    with pytest.raises(InputError, match="length"):
        cell_pairs(vectors, threshold=0.5)


# ---- units ----------------------------------------------------------------------------------------------------------


def plan_of(vectors: NDArray[np.float32], count: int) -> CellPlan:
    none = TruePairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), 0)
    return CellPlan(fit_cells(vectors, count), 3, Recall(1, 0, 1, 0, 0), {}, none)


@settings(deadline=None)
@given(
    n=st.integers(2, 60),
    seed=st.integers(0, 10**6),
    neighbours=st.integers(0, 4),
    max_pairs=st.sampled_from([4, 10**6]),
    products=st.integers(1, 500),
    ranges=st.integers(1, 5),
    ties=st.booleans(),
    data=st.data(),
)
def test_groups_and_ranges_in_any_order_merge_to_one_search(
    n: int, seed: int, neighbours: int, max_pairs: int, products: int, ranges: int, ties: bool, data: st.DataObject
) -> None:
    vectors = with_ties(n, seed) if ties else clustered(n, 8, seed)
    wanted = WantedPairs(0.3, neighbours, 0.8, max_pairs, one=True)
    centroids = fit_cells(vectors, 8)
    rows = assigned(vectors, centroids, 3)
    counts = cell_counts(rows, len(centroids))
    groups = cells.group_cells(counts, None, wanted, products=products)
    assert [at for group in groups for at in range(len(centroids))[group]] == [*range(groups[-1].stop if groups else 0)]
    whole = CellMerge(wanted, 0, n)
    whole.add(search_cells(vectors, None, rows, None, slice(0, len(centroids)), wanted))
    parts = [search_cells(vectors, None, rows, None, group, wanted) for group in groups]
    parts = [TilePairs.from_bytes(part.to_bytes()) for part in data.draw(st.permutations(parts))]
    last = CellMerge(wanted, 0, 0)
    for chunk in np.array_split(np.arange(n), ranges):
        if len(chunk):
            merge = CellMerge(wanted, int(chunk[0]), int(chunk[-1]) + 1)
            for part in parts:
                merge.add(part)
            last.add(merge.pairs())
    one, many = whole.pairs(), last.pairs()
    assert found(one) == found(many)
    assert (one.dropped > 0) == (many.dropped > 0)


def test_no_pair_is_reported_by_two_cells() -> None:
    vectors = clustered(300, 8, seed=0)
    wanted = WantedPairs(0.3, 0, 1.0, 10**6, one=True)
    rows = assigned(vectors, fit_cells(vectors, 10), 5)
    parts = [search_cells(vectors, None, rows, None, slice(at, at + 1), wanted) for at in range(10)]
    assert sum(len(part.left) for part in parts) == len(set().union(*(found(part) for part in parts)))
    work = cells.cell_products(cell_counts(rows, 10), None, wanted)
    assert work.sum() < 300 * 299 / 2 * 2


def test_the_default_number_of_cells_grows_with_the_root() -> None:
    assert kmeans.default_cells(1_000_000) == 2000
    assert kmeans.default_cells(0) == 1
