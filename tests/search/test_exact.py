from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dupq.errors import InputError
from dupq.search import exact
from dupq.search.exact import similar_pairs
from dupq.search.kernels import KERNELS, Kernel
from dupq.search.vectors import StoredRows
from tests.search.vectors import all_pairs, clustered, unit


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many panels and tiles in few rows, none of which divides another."""
    monkeypatch.setattr(exact, "PANEL", 23)
    monkeypatch.setattr(exact, "TILE_ROWS", 7)
    monkeypatch.setattr(exact, "TILE_COLUMNS", 11)


def found(pairs: exact.SimilarPairs) -> set[tuple[int, int]]:
    return set(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True))


@pytest.mark.parametrize("kernel", KERNELS)
@given(n=st.integers(0, 80), d=st.integers(2, 40), seed=st.integers(0, 10**6), threshold=st.floats(0.05, 1.0))
def test_finds_what_the_full_square_finds(kernel: Kernel, n: int, d: int, seed: int, threshold: float) -> None:
    vectors = clustered(n, d, seed) if n else np.zeros((0, d), np.float32)
    pairs = similar_pairs(vectors, threshold=threshold, kernel=kernel)
    assert found(pairs) == set(all_pairs(vectors, None, threshold))
    assert pairs.search_guarantee.exact
    assert pairs.search_guarantee.compared == n * (n - 1) // 2
    assert pairs.search_guarantee.complete_above == threshold


@pytest.mark.parametrize("kernel", KERNELS)
@given(n=st.integers(0, 60), m=st.integers(0, 60), seed=st.integers(0, 10**6))
def test_finds_all_between_two_collections(kernel: Kernel, n: int, m: int, seed: int) -> None:
    both = clustered(n + m + 1, 12, seed)
    left, right = both[:n], both[n : n + m]
    pairs = similar_pairs(left, right, threshold=0.7, kernel=kernel)
    assert found(pairs) == set(all_pairs(left, right, 0.7))
    assert pairs.search_guarantee.compared == n * m


@pytest.mark.parametrize("kernel", KERNELS)
def test_misses_no_pair_that_lies_on_the_threshold(kernel: Kernel) -> None:
    vectors = clustered(70, 33, seed=5)
    pairs = similar_pairs(vectors, threshold=0.3, kernel=kernel)
    assert len(pairs) > 40
    for a, b, cosine in zip(pairs.left[:40].tolist(), pairs.right[:40].tolist(), pairs.cosine.tolist(), strict=False):
        at = similar_pairs(vectors, threshold=cosine, kernel=kernel)
        assert (a, b) in found(at)
        above = similar_pairs(vectors, threshold=float(np.nextafter(cosine, 2)), kernel=kernel)
        assert (a, b) not in found(above)


def test_pairs_come_strongest_first_with_their_cosines() -> None:
    vectors = clustered(60, 16, seed=3)
    pairs = similar_pairs(vectors, threshold=0.4)
    assert np.all(np.diff(pairs.cosine) <= 0)
    truth = all_pairs(vectors, None, 0.4)
    for left, right, cosine in zip(pairs.left.tolist(), pairs.right.tolist(), pairs.cosine, strict=True):
        assert cosine == pytest.approx(truth[left, right], abs=1e-12)


def test_too_many_pairs_keep_the_strongest_and_say_so() -> None:
    vectors = clustered(80, 8, seed=11)
    truth = sorted(all_pairs(vectors, None, 0.3).items(), key=lambda pair: (-pair[1], pair[0]))
    assert len(truth) > 150
    pairs = similar_pairs(vectors, threshold=0.3, max_pairs=40)
    assert len(pairs) == 40
    assert found(pairs) == {pair for pair, _ in truth[:40]}
    search_guarantee = pairs.search_guarantee
    assert search_guarantee.truncated
    assert {pair for pair, cosine in truth if cosine >= search_guarantee.complete_above} <= found(pairs)
    assert search_guarantee.complete_above <= np.nextafter(pairs.cosine[-1], 2)


def test_equal_pairs_beyond_the_limit_are_cut_by_row_numbers() -> None:
    vectors = np.repeat(unit(np.ones((1, 4))), 30, axis=0)
    pairs = similar_pairs(vectors, threshold=0.9, max_pairs=5)
    assert sorted(found(pairs)) == [(0, 1), (0, 2), (0, 3), (0, 4), (0, 5)]
    assert pairs.search_guarantee.truncated


def test_rows_may_lie_in_a_file(tmp_path: Path) -> None:
    vectors = clustered(75, 10, seed=1)
    (tmp_path / "rows").write_bytes(vectors.tobytes())
    stored = StoredRows(tmp_path / "rows", (75, 10))
    assert found(similar_pairs(stored, threshold=0.5)) == found(similar_pairs(vectors, threshold=0.5))


def test_an_interrupted_scan_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "CHECKPOINT_SECONDS", -1.0)
    vectors = clustered(90, 10, seed=2)
    whole = similar_pairs(vectors, threshold=0.5, max_pairs=60)
    seen: list[int] = []

    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    def run(progress: Any) -> exact.SimilarPairs:
        return similar_pairs(vectors, threshold=0.5, max_pairs=60, resume=tmp_path / "scan", progress=progress)

    with pytest.raises(KeyboardInterrupt):
        run(stop)
    again = run(lambda done, _: seen.append(done))
    assert seen[0] > 23 * 60  # the first panel was not scanned twice
    assert seen[-1] == 90 * 89 // 2
    assert found(again) == found(whole)
    # How many pairs had to be looked at twice depends on when the weakest were dropped; the guarantee does not.
    assert replace(again.search_guarantee, rescored=0) == replace(whole.search_guarantee, rescored=0)
    third = run(None)
    assert third.search_guarantee == again.search_guarantee
    assert found(third) == found(whole)


def test_a_progress_file_of_another_scan_is_refused(tmp_path: Path) -> None:
    vectors = clustered(30, 10, seed=2)
    similar_pairs(vectors, threshold=0.5, resume=tmp_path / "scan")
    with pytest.raises(InputError, match="belongs to another search"):
        similar_pairs(vectors, threshold=0.6, resume=tmp_path / "scan")
    with pytest.raises(InputError, match="belongs to another search"):
        similar_pairs(vectors[::-1], threshold=0.5, resume=tmp_path / "scan")
    (tmp_path / "scan").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(InputError, match="not readable"):
        similar_pairs(vectors, threshold=0.5, resume=tmp_path / "scan")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"threshold": 0.0}, "threshold must be a number in"),
        ({"threshold": 1.5}, "threshold must be a number in .0, 1., got 1.5"),
        ({"max_pairs": 0}, "max_pairs must be an integer of at least 1"),
        ({"vectors": np.ones(4, np.float32)}, "vectors must have the shape \\(n, d\\)"),
        ({"vectors": np.full((3, 4), 2.0, np.float32)}, "length 4, not 1"),
        ({"vectors": np.full((3, 4), np.nan, np.float32)}, "length nan"),
        ({"others": unit(np.ones((2, 5)))}, "others must have 4 dimensions, as vectors have, got 5"),
    ],
)
def test_bad_input_is_one_clear_error(change: dict[str, Any], told: str) -> None:
    arguments: dict[str, Any] = {"vectors": unit(np.ones((3, 4))), "threshold": 0.5, **change}
    with pytest.raises(InputError, match=told):
        similar_pairs(arguments.pop("vectors"), **arguments)


def test_a_row_of_zeros_is_near_nothing() -> None:
    vectors = np.concatenate([np.zeros((3, 4), np.float32), unit(np.ones((2, 4)))])
    for kernel in KERNELS:
        assert found(similar_pairs(vectors, threshold=0.01, kernel=kernel)) == {(3, 4)}
