from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dupq.errors import MissingExtraError
from dupq.mining.find_duplicates import MiningSettings, find_duplicates
from dupq.pipeline import DuplicatePipeline
from dupq.search import approximate
from dupq.search.approximate import approximate_pairs
from dupq.search.exact import similar_pairs
from dupq.search.vectors import StoredRows
from tests.questions import INTENTS, THINGS
from tests.search.vectors import clustered


def found(pairs: approximate.SimilarPairs) -> set[tuple[int, int]]:
    return set(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True))


def test_finds_nearly_all_and_states_its_recall(tmp_path: Path) -> None:
    vectors = clustered(1500, 24, seed=0)
    exact = similar_pairs(vectors, threshold=0.6)
    pairs = approximate_pairs(vectors, threshold=0.6, sample=1500)
    assert found(pairs) <= found(exact)
    recall = len(pairs) / len(exact)
    assert recall > 0.95
    search_guarantee = pairs.search_guarantee
    assert not search_guarantee.exact
    # All rows were sampled, so that the measured recall is the true one.
    assert search_guarantee.recall == pytest.approx(recall)
    assert search_guarantee.recall_low <= search_guarantee.recall <= search_guarantee.recall_high
    assert f"{recall:.1%}" in str(search_guarantee)
    cosine = dict(zip(zip(exact.left, exact.right, strict=True), exact.cosine, strict=True))
    assert all(cosine[i, j] == c for i, j, c in zip(pairs.left, pairs.right, pairs.cosine, strict=True))
    (tmp_path / "rows").write_bytes(vectors.tobytes())
    assert len(approximate_pairs(StoredRows(tmp_path / "rows", (1500, 24)), threshold=0.6)) > 0.95 * len(exact)


def flooded() -> NDArray[np.float32]:
    """Thirty clusters of thirty, all of whose members are near each other."""
    vectors = np.repeat(clustered(30, 8, seed=0), 30, axis=0)
    vectors += 0.01 * np.random.default_rng(0).standard_normal(vectors.shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_a_question_with_many_duplicates_is_searched_further() -> None:
    vectors = flooded()
    pairs = approximate_pairs(vectors, threshold=0.95, read=3, sample=300)
    assert len(pairs) > 0.95 * len(similar_pairs(vectors, threshold=0.95))


def test_too_few_neighbours_show_in_the_recall(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approximate, "MAX_READ", 4)
    vectors = flooded()
    pairs = approximate_pairs(vectors, threshold=0.95, read=3, sample=300)
    exact = similar_pairs(vectors, threshold=0.95)
    assert len(pairs) < 0.5 * len(exact)
    assert pairs.search_guarantee.recall == pytest.approx(len(pairs) / len(exact), abs=0.1)
    assert pairs.search_guarantee.recall_high < 0.6


def test_between_two_collections() -> None:
    left, right = clustered(400, 16, seed=1)[:150], clustered(400, 16, seed=1)[150:]
    exact = similar_pairs(left, right, threshold=0.6)
    pairs = approximate_pairs(left, right, threshold=0.6)
    assert found(pairs) <= found(exact)
    assert len(pairs) > 0.95 * len(exact)


def test_mining_takes_it_above_the_size_that_is_set(pipeline: DuplicatePipeline) -> None:
    texts = [phrase.format(thing=thing) for thing in THINGS[:10] for asked in INTENTS for phrase in asked]
    few = find_duplicates(pipeline, texts, settings=MiningSettings(0.7, approximate_above=len(texts)))
    assert few.search_guarantee.exact
    many = find_duplicates(pipeline, texts, settings=MiningSettings(0.7, approximate_above=len(texts) - 1))
    assert not many.search_guarantee.exact
    assert many.search_guarantee.recall > 0.9
    assert many.summary()["recall_of_search"] == many.search_guarantee.recall


def test_without_usearch_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dupq.errors.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match="needs usearch"):
        approximate_pairs(clustered(30, 8, seed=0), threshold=0.5)


def test_mining_says_so_before_it_begins(pipeline: DuplicatePipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dupq.errors.find_spec", lambda _: None)

    def never(*_: object) -> None:
        raise AssertionError("work was begun")

    with pytest.raises(MissingExtraError, match="needs usearch"):
        find_duplicates(pipeline, ["Who was it?", "Why?"], settings=MiningSettings(approximate_above=1), progress=never)


def test_nothing_to_compare_is_no_error() -> None:
    assert len(approximate_pairs(np.zeros((0, 4), np.float32), threshold=0.5)) == 0
