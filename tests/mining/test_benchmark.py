"""The figures of `benchmarks.forum`: that they count what they say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers.sentence_transformer.evaluation import ParaphraseMiningEvaluator, paraphrase_mining

from benchmarks.forum.corpus import Corpus
from benchmarks.forum.mining import exponent
from benchmarks.nearest import nearest
from dupq.data.writing import write_rows
from tests.search.vectors import clustered


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Forty questions; of their pairs a third are labelled, and of those a half duplicates."""
    draw = np.random.default_rng(0)
    pairs = [(a, b) for a in range(40) for b in range(a + 1, 40) if draw.random() < 0.3]
    rows = (
        {"question1": f"Who is {b}?", "question2": f"Who is {a}?", "label": int(draw.integers(2))} for a, b in pairs
    )
    path = tmp_path / "pairs.jsonl"
    write_rows(str(path), rows, ["question1", "question2", "label"])
    return Corpus.of(str(path))


@pytest.mark.parametrize("closure", [False, True])
def test_average_precision_is_that_of_the_evaluator(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch, closure: bool
) -> None:
    if closure:  # a fifth of the labels: with all of them nearly all questions are of one closure
        few = np.random.default_rng(2).random(len(corpus.labels)) < 0.2
        corpus = replace(corpus, left=corpus.left[few], right=corpus.right[few], labels=corpus.labels[few])
    draw, n = np.random.default_rng(1), len(corpus.texts)
    left, right = np.triu_indices(n, 1)
    score = np.round(draw.random(len(left)), 2)  # with ties
    order = np.argsort(-score, kind="stable")
    left, right, score = left[order], right[order], score[order]
    duplicates = [
        (str(a), str(b)) for a, b, label in zip(corpus.left, corpus.right, corpus.labels, strict=True) if label
    ]
    texts = {str(at): text for at, text in enumerate(corpus.texts)}
    evaluator = ParaphraseMiningEvaluator(texts, duplicates, add_transitive_closure=closure)
    mined = list(zip(score.tolist(), left.tolist(), right.tolist(), strict=True))
    monkeypatch.setattr(paraphrase_mining, "paraphrase_mining", lambda *_, **__: mined)

    class Model:
        model_card_data: Any = None
        similarity_fn_name = None

    monkeypatch.setattr(evaluator, "store_metrics_in_model_card_data", lambda *_, **__: None)
    found = corpus.quality(left, right, score)
    kind = "closure_average_precision" if closure else "average_precision"
    assert found[kind] == pytest.approx(evaluator(Model())["average_precision"])  # type: ignore[arg-type]
    top = corpus.quality(left, right, score, 50)
    label = {(a, b): label for a, b, label in zip(corpus.left, corpus.right, corpus.labels, strict=True)}
    known = [label[pair] for pair in zip(left[:50], right[:50], strict=True) if pair in label]
    assert top["precision"] == pytest.approx(np.mean(known))
    assert top["recall"] == pytest.approx(sum(known) / corpus.labels.sum())
    assert corpus.quality(left[:0], right[:0], score[:0])["average_precision"] == 0


def test_only_pairs_of_which_the_labels_say_something_count_as_labelled() -> None:
    # 0 = 1 = 2 by the labels, and 3 is another; of 4 nobody said anything.
    ends, labels = np.array([[0, 1], [1, 2], [2, 3]]), np.array([1, 1, 0], np.int8)
    corpus = Corpus([f"Who is {at}?" for at in range(5)], ends[:, 0], ends[:, 1], labels)
    assert len(set(corpus.duplicate_components[:3])) == 1
    assert len(set(corpus.duplicate_components)) == 3
    # Best first: nobody's, joined by a chain, labelled distinct, labelled the same; the second of these is not found.
    found = corpus.quality(np.array([3, 0, 2, 0]), np.array([4, 2, 3, 1]), np.array([0.9, 0.8, 0.7, 0.6]))
    assert found["average_precision"] == pytest.approx((1 / 4) / 2)
    assert found["closure_average_precision"] == pytest.approx((1 / 2 + 2 / 4) / 3)
    assert found["labelled_average_precision"] == pytest.approx((1 / 1 + 2 / 3) / 3)


def test_the_nearest_are_found_across_blocks() -> None:
    rows, queries = clustered(40_000, 4, seed=0), clustered(5, 4, seed=1)
    found = nearest(rows, queries, 7)
    cosine = queries.astype(np.float64) @ rows.astype(np.float64).T
    assert (np.take_along_axis(cosine, found, axis=1) == -np.sort(-cosine, axis=1)[:, :7]).all()


def test_the_exponent_of_a_square_is_two() -> None:
    rows = [{"n": n, "seconds": 1e-9 * n**2} for n in (10_000, 50_000, 100_000)]
    assert exponent([{"n": 1000, "seconds": 5.0}, *rows]) == pytest.approx(2)
    assert exponent(rows[:2]) is None
