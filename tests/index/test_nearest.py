"""The exact search against a loop, and its independence of batches and of the order of blocks."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dupq.index import nearest
from dupq.index.nearest import Block, best, cosines, exact_nearest


def unit_rows(seed: int, n: int, d: int, dtype: str, kinds: int) -> NDArray[Any]:
    """Rows of which there are few kinds, so that cosines tie, and some are zero."""
    draw = np.random.default_rng(seed)
    rows = draw.standard_normal((max(1, kinds), d))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows[draw.random(len(rows)) < 0.1] = 0
    return rows[draw.integers(len(rows), size=n)].astype(dtype)


def by_loop(
    slots: NDArray[np.int64], rows: NDArray[Any], query: NDArray[np.float32], k: int, gone: set[int]
) -> list[tuple[int, float]]:
    """The k best by sums that are correctly rounded."""
    scored = [
        (-math.fsum(float(a) * float(b) for a, b in zip(row, query, strict=True)), int(slot))
        for slot, row in zip(slots, rows, strict=True)
        if int(slot) not in gone
    ]
    return [(slot, -value) for value, slot in sorted(scored)[:k]]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 60),
    d=st.sampled_from([1, 2, 3, 8, 33]),
    k=st.integers(0, 70),
    m=st.sampled_from([1, 2, 5]),
    dtype=st.sampled_from(["float16", "float32"]),
    kinds=st.integers(1, 60),
    removed=st.floats(0, 1),
    step=st.sampled_from([1, 4, 7, 2048]),
    cuts=st.integers(1, 4),
)
@example(seed=1, n=40, d=8, k=10, m=2, dtype="float16", kinds=1, removed=0.5, step=4, cuts=2)
def test_the_search_finds_what_a_loop_finds(
    seed: int, n: int, d: int, k: int, m: int, dtype: str, kinds: int, removed: float, step: int, cuts: int
) -> None:
    draw = np.random.default_rng(seed)
    rows, queries = unit_rows(seed, n, d, dtype, kinds), unit_rows(seed + 1, m, d, "float32", 5)
    queries[0] = rows[0]  # a copy, with its ties
    slots = np.sort(draw.permutation(3 * n)[:n]).astype(np.int64)
    gone = slots[draw.random(n) < removed]
    at = [0, *sorted(draw.integers(0, n + 1, cuts).tolist()), n]
    blocks = [Block.of(slots[i:j], rows[i:j]) for i, j in pairwise(at) if j > i]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nearest, "STEP", step)
        patch.setattr(nearest, "SPAN", 3 * step)
        patch.setattr(nearest, "PART", 5)
        found = exact_nearest(blocks, queries, k, gone)
    for query, (got, values) in zip(queries, found, strict=True):
        expected = by_loop(slots, rows, query, k, {*gone.tolist()})
        assert len(got) == len(expected) == min(k, n - len(gone))
        np.testing.assert_allclose(values, [value for _, value in expected], atol=1e-12)
        kth = expected[-1][1] if expected else 0.0
        # Cosines that differ in the last bits only may change places between the two sums.
        certain = {slot for slot, value in expected if value > kth + 1e-12}
        assert certain <= {*got.tolist()}
        order = np.lexsort((got, -values))
        assert order.tolist() == [*range(len(got))]
        everything = cosines(query, rows)
        alive = ~np.isin(slots, gone)
        exact = best(k, [(slots[alive], everything[alive])])
        assert got.tolist() == exact[0].tolist()
        assert values.tolist() == exact[1].tolist()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6), d=st.sampled_from([1, 3, 127, 192, 193, 9000]), dtype=st.sampled_from(["<f2", "<f4"])
)
def test_a_cosine_is_equal_to_the_last_bit_in_any_batch_and_form(seed: int, d: int, dtype: str) -> None:
    rows, query = unit_rows(seed, 50, d, dtype, 50), unit_rows(seed + 1, 1, d, "float32", 1)[0]
    together = cosines(query, rows)
    assert together.tolist() == [cosines(query, row[None])[0] for row in rows]
    assert together.tolist() == cosines(query, rows.astype(np.float32)).tolist()
    assert together.tolist() == cosines(query, np.asfortranarray(rows)).tolist()
    assert together[::2].tolist() == cosines(query, rows[::2]).tolist()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    d=st.sampled_from([1, 2, 16, 192]),
    dtype=st.sampled_from(["float16", "float32"]),
    size=st.sampled_from([1e-35, 1e-5, 1.0]),
)
def test_no_rough_cosine_is_off_by_more_than_its_bound(seed: int, d: int, dtype: str, size: float) -> None:
    rows, queries = unit_rows(seed, 200, d, dtype, 200), unit_rows(seed + 1, 20, d, "float32", 20)
    rows = (rows * np.asarray(size, rows.dtype)).astype(dtype)
    block = Block.of(np.arange(200), rows)
    rough = (queries @ block.codes.astype(np.float32).T) * block.scale
    true = queries.astype(np.float64) @ rows.astype(np.float64).T
    length = np.linalg.norm(queries.astype(np.float64), axis=1)[:, None]
    assert (np.abs(rough - true) <= block.slack * length).all()


def test_a_search_computes_few_rows_in_double_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = unit_rows(0, 30_000, 64, "float16", 30_000)
    block = Block.of(np.arange(len(rows)), rows)
    counted: list[int] = []

    def counting(query: NDArray[np.float32], rows: NDArray[Any]) -> NDArray[np.float64]:
        counted.append(len(rows))
        return cosines(query, rows)

    monkeypatch.setattr(nearest, "cosines", counting)
    exact_nearest([block], rows[:4].astype(np.float32), 10, np.zeros(0, np.int64))
    assert 40 <= sum(counted) < 1200
