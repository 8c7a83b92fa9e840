from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from dupq.errors import InputError
from dupq.models.batching import UniquePairs
from dupq.models.ensemble import COSINE_SCALE, BlendScorer, CosineScorer, fit_blend
from tests.fakes import WordEmbedder, WordScorer
from tests.questions import labelled_table

TEXTS = st.lists(st.tuples(st.text(max_size=4), st.text(max_size=4)), max_size=20)


@given(TEXTS, st.randoms(use_true_random=False))
def test_unique_pairs_do_not_depend_on_order(pairs: list[tuple[str, str]], random: object) -> None:
    left, right = [a for a, _ in pairs], [b for _, b in pairs]
    unique = UniquePairs.of(left, right)
    swapped = UniquePairs.of(right, left)
    assert (unique.left, unique.right) == (swapped.left, swapped.right)
    assert len(set(zip(unique.left, unique.right, strict=True))) == len(unique.left)
    for index, (a, b) in enumerate(pairs):
        place = unique.inverse[index]
        assert sorted((unique.left[place], unique.right[place])) == sorted((a, b))
        assert unique.left[place] <= unique.right[place]


def test_cosine_scorer_is_the_cosine_and_symmetric_to_the_bit() -> None:
    table = labelled_table(20)
    scorer = CosineScorer(WordEmbedder())
    scores = scorer.score(table.left, table.right)
    embedder = WordEmbedder()
    for index in range(0, len(table), 17):
        a, b = embedder.embed([table.left[index], table.right[index]]).astype(np.float64)
        assert scores[index] == pytest.approx(COSINE_SCALE * float(a @ b), abs=1e-6)
    assert np.array_equal(scores, scorer.score(table.right, table.left))


def test_blend_is_the_weighted_sum() -> None:
    table = labelled_table(5)
    members = (WordScorer(), CosineScorer(WordEmbedder()))
    blend = BlendScorer(members, (2.0, 0.5), -1.0)
    expected = 2 * members[0].score(table.left, table.right) + 0.5 * members[1].score(table.left, table.right) - 1
    assert np.allclose(blend.score(table.left, table.right), expected, atol=1e-12)


def drawn_labels(scores: NDArray[np.float64], seed: int = 0) -> NDArray[np.int64]:
    """Labels that are likelier the higher the score."""
    centred = (scores - scores.mean()) / scores.std()
    return (np.random.default_rng(seed).random(len(scores)) < 1 / (1 + np.exp(-2 * centred))).astype(np.int64)


def test_progress_of_a_blend_rises_to_the_whole_through_all_members() -> None:
    class Silent(WordScorer):
        def score(self, left, right, progress=None):  # type: ignore[no-untyped-def]
            return super().score(left, right)

    seen: list[tuple[int, int]] = []
    table = labelled_table(20)
    members = (CosineScorer(WordEmbedder()), WordScorer(), Silent())
    BlendScorer(members, (1.0, 1.0, 1.0)).score(table.left, table.right, lambda *calls: seen.append(calls))
    n = len(table)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert {total for _, total in seen} == {3 * n}
    assert {2 * n, 3 * n} <= {done for done, _ in seen}


def test_fitted_blend_gives_the_log_odds_of_scikit_learn() -> None:
    table = labelled_table(40)
    members = [WordScorer(), CosineScorer(WordEmbedder(dimensions=512))]
    features = np.stack([member.score(table.left, table.right) for member in members], axis=1)
    labels = drawn_labels((features / features.std(axis=0)).sum(axis=1))
    blend = fit_blend(members, table.left, table.right, labels)
    direct = LogisticRegression(C=1e9, max_iter=5000, tol=1e-8).fit(features, labels)
    assert np.allclose(blend.score(table.left, table.right), direct.decision_function(features), atol=0.02)


def test_a_member_that_would_count_against_the_others_has_no_weight() -> None:
    table = labelled_table(20)
    words = WordScorer().score(table.left, table.right)

    class Reversed(WordScorer):
        def score(self, left, right, progress=None):  # type: ignore[no-untyped-def]
            return -super().score(left, right) + np.random.default_rng(0).normal(size=len(left))

    labels = drawn_labels(words)
    blend = fit_blend([WordScorer(), Reversed()], table.left, table.right, labels)
    alone = fit_blend([WordScorer()], table.left, table.right, labels)
    assert blend.weights == (pytest.approx(alone.weights[0]), 0.0)
    with pytest.raises(InputError, match="no network scores duplicates higher"):
        fit_blend([WordScorer()], table.left, table.right, 1 - labels)


@pytest.mark.parametrize(
    ("left", "right", "said"),
    [(["a"], ["b", "c"], "must have the same length, got 1 and 2"), ("ab", ["c"], "got one str")],
)
def test_wrong_shapes_are_told(left: list[str], right: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        UniquePairs.of(left, right)
