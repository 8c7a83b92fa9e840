"""In which order a cross-encoder reads a pair: what is read, and what comes of it."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dupq.models.cross_encoder import CrossEncoderScorer
from dupq.models.onnx.runtime import RuntimeCrossEncoder, RuntimeNetwork
from dupq.models.scoring_options import with_symmetry
from dupq.models.symmetry import (
    CERTAIN,
    UNCERTAIN,
    Symmetry,
    symmetric_scores,
)
from dupq.types import Progress
from tests.questions import labelled_table

TABLE = labelled_table(12)


class Reader:
    """Returns the given logit of each pair's first text, and records the pairs."""

    def __init__(self, logits: dict[str, float]) -> None:
        self.logits = logits
        self.read: list[tuple[str, str]] = []

    def __call__(self, pairs: list[tuple[str, str]], progress: Progress | None) -> NDArray[np.float64]:
        self.read += pairs
        return np.array([self.logits[first] for first, _ in pairs])


def test_the_other_order_is_read_where_the_first_leaves_doubt() -> None:
    reader = Reader({"a": 0.4, "b": -0.8, "c": 4.0, "d": -9.0, "e": 1.25, "f": 3.25})
    scores = symmetric_scores(reader, ["a", "d", "e"], ["b", "c", "f"], "adaptive")
    assert reader.read == [("a", "b"), ("c", "d"), ("e", "f"), ("b", "a"), ("f", "e")]
    # In doubt, the mean; certain, the first; half way between the two, half of the way to the mean.
    np.testing.assert_allclose(scores, [-0.2, 4.0, 1.25 + (3.25 - 1.25) / 4])


def test_of_nearly_the_same_words_the_lower_counts() -> None:
    logits = {"Do cats eat mice ?": 5.0, "Do mice eat cats ?": -2.0, "Do cats eat mice!": 6.0, "Do dogs bark ?": 3.0}
    reader = Reader(logits)
    left = ["Do mice eat cats ?", "Do cats eat mice ?", "Do dogs bark ?"]
    right = ["Do cats eat mice ?", "Do cats eat mice!", "Do mice eat cats ?"]
    scores = symmetric_scores(reader, left, right, "adaptive")
    # The same words in another order; one by one the same, so read once; other words, and certain.
    assert scores.tolist() == [-2.0, 5.0, 3.0]
    assert reader.read[3:] == [("Do mice eat cats ?", "Do cats eat mice ?")]


@given(st.floats(-3, 3), st.floats(-3, 3))
def test_no_score_leaps_where_doubt_begins(first: float, second: float) -> None:
    def score(at: float) -> float:
        return float(symmetric_scores(Reader({"a": at, "b": second}), ["a"], ["b"], "adaptive")[0])

    steepest = 1 + (abs(second) + CERTAIN) / (CERTAIN - UNCERTAIN)
    assert abs(score(first) - score(first + 1e-6)) <= steepest * 1e-6 + 1e-12
    low, high = sorted((first, second))
    assert low - 1e-12 <= score(first) <= high + 1e-12


@pytest.mark.parametrize("symmetry", get_args(Symmetry))
def test_every_way_is_symmetric_and_tells_its_progress(cross_folder: Path, symmetry: Symmetry) -> None:
    scorer = CrossEncoderScorer(cross_folder, symmetry=symmetry, batch_size=16, device="cpu")
    seen: list[tuple[int, int]] = []
    scores = scorer.score(TABLE.left, TABLE.right, lambda done, total: seen.append((done, total)))
    assert np.array_equal(scores, scorer.score(TABLE.right, TABLE.left))
    assert seen[-1][0] == seen[-1][1]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert scorer.score([], []).shape == (0,)


def test_stock_and_int8_networks_read_alike(cross_folder: Path, cross_network: RuntimeNetwork) -> None:
    for one in (CrossEncoderScorer(cross_folder, device="cpu"), RuntimeCrossEncoder(cross_network)):
        ways = {symmetry: with_symmetry(one, symmetry) for symmetry in get_args(Symmetry)}
        assert len({way.fingerprint for way in ways.values()}) == 3
        assert ways["canonical"].fingerprint == one.fingerprint
        scores = {name: way.score(TABLE.left, TABLE.right) for name, way in ways.items()}
        assert np.array_equal(scores["canonical"], one.score(TABLE.left, TABLE.right))
        other = 2 * scores["both"] - scores["canonical"]
        assert not np.allclose(other, scores["canonical"], atol=1e-3)  # else the rest would be true of any network
        lower, adaptive = np.minimum(scores["canonical"], other), scores["adaptive"]
        of_lower = np.isclose(adaptive, lower)
        certain, unsure = np.abs(scores["canonical"]) > CERTAIN, np.abs(scores["canonical"]) < UNCERTAIN
        assert certain.any()
        assert (np.isclose(adaptive, scores["canonical"]) | of_lower)[certain].all()
        assert (np.isclose(adaptive, scores["both"]) | of_lower)[unsure].all()
