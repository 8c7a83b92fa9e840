"""The figures of `benchmarks.retrieval`: ranks, recall and candidates, against what brute force counts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks import retrieval
from benchmarks.retrieval import Corpus, candidates, measure, ranks
from dupq import DuplicatePipeline
from dupq.decisions.candidate_rule import CandidateRule
from tests.fakes import WordEmbedder, WordScorer
from tests.questions import question_cluster
from tests.search.vectors import clustered

THINGS = ("chess", "rowing", "pottery")
RULE = CandidateRule(2, 0.3)


@pytest.fixture
def corpus() -> Corpus:
    made = [question_cluster(thing) for thing in THINGS]
    return Corpus.of(made[:2], made[2:])


def test_ranks_count_the_texts_that_are_nearer() -> None:
    vectors, same = clustered(200, 8, seed=0), np.arange(40).reshape(10, 4) * 5
    found = ranks(vectors, same, depth=30)
    cosine = vectors.astype(np.float64) @ vectors.astype(np.float64).T
    np.fill_diagonal(cosine, -np.inf)
    for cluster, rows in enumerate(same):
        for i, row in enumerate(rows):
            for j, other in enumerate(rows):
                nearer = int((cosine[row] > cosine[row, other]).sum()) if i != j else 30
                assert found[cluster, i, j] == min(nearer, 30)
    assert (found < 30).any()
    assert (found[:, ~np.eye(4, dtype=bool)] == 30).any()


def test_a_text_is_not_its_own_neighbour_though_others_are_as_near() -> None:
    vectors = np.tile(np.array([[1, 0]], np.float32), (4, 1))
    found = ranks(vectors, np.array([[2, 3]]), depth=3)
    assert found[0].tolist() == [[3, 2], [2, 3]]


def test_candidates_are_near_and_among_the_neighbours_or_very_near() -> None:
    cosine, rank = np.array([0.3, 0.5, 0.5, 0.79, 0.8, 0.95]), np.array([0, 0, 5, 4, 9, 9])
    assert candidates(cosine, rank, CandidateRule()).tolist() == [False] * 4 + [True] * 2
    assert candidates(cosine, rank, CandidateRule(0, 0.4)).tolist() == [False] + [True] * 5
    assert candidates(cosine, rank, CandidateRule(5, 0.4)).tolist() == [False, True, False, True, True, True]
    assert candidates(cosine, rank, CandidateRule(5, 0.9)).tolist() == [False] * 5 + [True]


def test_figures_are_those_of_brute_force(corpus: Corpus) -> None:
    vectors = WordEmbedder().embed(corpus.texts)
    cosine = vectors.astype(np.float64) @ vectors.T
    same = [rows.tolist() for rows in corpus.same]
    assert [[corpus.texts[row] for row in rows] for rows in same] == [
        question_cluster(thing)["s"] for thing in THINGS[:2]
    ]
    found = measure(vectors, corpus, CandidateRule(0, 0.4), resamples=10)
    partners = [cosine[a, b] for rows in same for at, a in enumerate(rows) for b in rows[:at]]
    assert found["candidates"]["value"] == pytest.approx(np.mean(np.array(partners) >= 0.4))
    assert 0 < found["candidates"]["value"] < 1
    scores = [cosine[corpus.texts.index(p.question1), corpus.texts.index(p.question2)] for p in corpus.pairs]
    assert found["roc_auc"]["value"] == pytest.approx(roc_auc_score([p.label for p in corpus.pairs], scores))
    rank = ranks(vectors, corpus.same, 10)
    hits = [rank[c, i, j] < 10 for c in range(2) for i in range(4) for j in range(4) if i != j]
    assert found["recall_at_10"]["value"] == pytest.approx(np.mean(hits))
    few = measure(vectors, corpus, CandidateRule(1, 0.4), resamples=10)
    assert few["candidates"]["value"] < found["candidates"]["value"]


def test_the_published_texts_are_28696(corpus: Corpus) -> None:
    whole = Corpus.of(retrieval.read_clusters("worlds_dev"), retrieval.read_clusters("worlds_train"))
    assert (len(whole.texts), whole.same.shape) == (28_696, (448, 4))
    assert f"{len(whole.texts):,}" in str(retrieval.__doc__)
    assert len(corpus.texts) == 24


def test_the_command_measures_a_pipeline_or_a_stock_folder(
    corpus: Corpus,
    tiny_bi_encoder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pipeline = DuplicatePipeline(WordScorer(), WordEmbedder(), candidate_rule=RULE)
    monkeypatch.setattr(retrieval.DuplicatePipeline, "from_pretrained", lambda _: pipeline)
    monkeypatch.setattr(retrieval.Corpus, "of", lambda *_: corpus)
    path, common = tmp_path / "retrieval.json", ["--resamples", "5", "-o", str(tmp_path / "retrieval.json")]
    retrieval.main(common)
    by_pipeline = json.loads(path.read_text(encoding="utf-8"))
    assert CandidateRule.from_dict(by_pipeline["candidate_rule"]) == RULE
    assert by_pipeline["model"] == WordEmbedder().fingerprint
    assert by_pipeline["rows"] == {"dupq": measure(WordEmbedder().embed(corpus.texts), corpus, RULE, 5)}
    recall = by_pipeline["rows"]["dupq"]["recall_at_10"]["value"]
    assert f"{recall:.3f}" in capsys.readouterr().out
    folder = str(tiny_bi_encoder)
    retrieval.main([*common, "--bi-encoder", folder, "--encoders", folder, "--neighbours", "3", "--min-cosine", "0.2"])
    by_folder = json.loads(path.read_text(encoding="utf-8"))
    assert CandidateRule.from_dict(by_folder["candidate_rule"]) == CandidateRule(3, 0.2)
    assert (by_folder["texts"], by_folder["queries"]) == (24, 8)
    assert set(by_folder["rows"]) == {"dupq", tiny_bi_encoder.name}
    assert by_folder["model"] != by_pipeline["model"]
