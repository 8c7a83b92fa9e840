"""The figures of `benchmarks.forum`: that they count what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers.sentence_transformer.evaluation import ParaphraseMiningEvaluator, paraphrase_mining

from benchmarks.forum import tables
from benchmarks.forum.corpus import Corpus
from benchmarks.forum.flagging import nearest
from benchmarks.forum.mining import exponent
from dupq.data.writing import write_rows
from tests.forum.vectors import clustered


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


def test_average_precision_is_that_of_the_evaluator(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    draw, n = np.random.default_rng(1), len(corpus.texts)
    left, right = np.triu_indices(n, 1)
    score = np.round(draw.random(len(left)), 2)  # with ties
    order = np.argsort(-score, kind="stable")
    left, right, score = left[order], right[order], score[order]
    duplicates = [
        (str(a), str(b)) for a, b, label in zip(corpus.left, corpus.right, corpus.labels, strict=True) if label
    ]
    evaluator = ParaphraseMiningEvaluator({str(at): text for at, text in enumerate(corpus.texts)}, duplicates)
    mined = list(zip(score.tolist(), left.tolist(), right.tolist(), strict=True))
    monkeypatch.setattr(paraphrase_mining, "paraphrase_mining", lambda *_, **__: mined)

    class Model:
        model_card_data: Any = None
        similarity_fn_name = None

    monkeypatch.setattr(evaluator, "store_metrics_in_model_card_data", lambda *_, **__: None)
    found = corpus.quality(left, right, score)
    assert found["average_precision"] == pytest.approx(evaluator(Model())["average_precision"])  # type: ignore[arg-type]
    top = corpus.quality(left, right, score, 50)
    label = {(a, b): label for a, b, label in zip(corpus.left, corpus.right, corpus.labels, strict=True)}
    known = [label[pair] for pair in zip(left[:50], right[:50], strict=True) if pair in label]
    assert top["precision"] == pytest.approx(np.mean(known))
    assert top["recall"] == pytest.approx(sum(known) / corpus.labels.sum())
    assert corpus.quality(left[:0], right[:0], score[:0])["average_precision"] == 0


def test_the_nearest_are_found_across_blocks() -> None:
    rows, queries = clustered(40_000, 4, seed=0), clustered(5, 4, seed=1)
    found = nearest(rows, queries, 7)
    cosine = queries.astype(np.float64) @ rows.astype(np.float64).T
    assert (np.take_along_axis(cosine, found, axis=1) == -np.sort(-cosine, axis=1)[:, :7]).all()


def test_the_exponent_of_a_square_is_two() -> None:
    rows = [{"n": n, "seconds": 1e-9 * n**2} for n in (10_000, 50_000, 100_000)]
    assert exponent([{"n": 1000, "seconds": 5.0}, *rows]) == pytest.approx(2)
    assert exponent(rows[:2]) is None


def test_what_is_not_measured_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    assert "not been measured" in tables.summary()
    crash = {"kills": 7, "acknowledged": 12_345, "lost": 3}
    (tmp_path / "forum_crash.json").write_text(json.dumps(crash), encoding="utf-8")
    assert tables.summary().startswith("Of 12,345 acknowledged questions, 7 `kill -9` lost 3.")
