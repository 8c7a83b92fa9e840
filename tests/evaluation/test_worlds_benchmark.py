"""The figures of `benchmarks.worlds`, on clusters made here and networks that count words."""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks import worlds
from benchmarks.intervals import mean, mean_at_half, resampled, roc_auc
from data_scripts import clusters
from data_scripts.clusters import world_pairs
from dupq import DuplicatePipeline
from dupq.data.pairs import PairTable
from dupq.models.ensemble import CosineScorer
from dupq.types import Decision
from tests.fakes import WordEmbedder, WordScorer
from tests.questions import INTENTS, labelled_table, question_cluster

THINGS = ("chess", "rowing", "pottery")


def post_cluster(thing: str) -> dict[str, Any]:
    one, other, two = (f"{phrase.format(thing=thing)}" for phrase in INTENTS[0])
    cost, money, hobby = (f"{phrase.format(thing=thing)}" for phrase in INTENTS[1])
    return {
        "w": "hobbies",
        "same": [f"{one}\nI have no time for lessons.", f"{other}\nThere is a club in town."],
        "titles": [one, two],
        "other": [f"{cost}\nI have no time for lessons.", f"Who invented {thing}?\nThere is a club in town."],
        "other_titles": [hobby, f"{money} Who came first?"],
    }


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the clusters, without long posts."""
    for name, made in (("worlds_dev", question_cluster), ("posts_dev", post_cluster)):
        with lzma.open(tmp_path / f"{name}.jsonl.xz", "wt", encoding="utf-8") as stream:
            stream.writelines(json.dumps(made(thing)) + "\n" for thing in THINGS)
    for module in (clusters, worlds):
        monkeypatch.setattr(module, "WORLDS", tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def pipeline() -> DuplicatePipeline:
    table = labelled_table(96)
    scores = WordScorer().score(table.left, table.right)
    draw = np.random.default_rng(0).random(len(table))
    labels = draw < 1 / (1 + np.exp(-3 * (scores - scores.mean()) / scores.std()))
    words = DuplicatePipeline(WordScorer(), WordEmbedder())
    return words.calibrate(PairTable(table.left, table.right, labels.astype(np.int8)))


def test_figures_are_those_of_the_pipeline_and_the_encoder(folder: Path, pipeline: DuplicatePipeline) -> None:
    results = worlds.measure(pipeline, {"words": CosineScorer(WordEmbedder())}, resamples=20)
    pairs = list(world_pairs([question_cluster(thing) for thing in THINGS]))
    labels = np.array([pair.label for pair in pairs])
    decided = pipeline.score_pairs([pair.question1 for pair in pairs], [pair.question2 for pair in pairs])
    right = np.array([pair.decision == Decision.DUPLICATE for pair in decided]) == (labels == 1)
    found = results["worlds_dev"]
    assert (found["pairs"], found["clusters"], found["duplicates"]) == (84, 3, pytest.approx(6 / 28))
    assert found["accuracy"]["value"] == pytest.approx(right.mean())
    scores = [pair.score for pair in decided]
    assert found["scorers"]["dupq"]["roc_auc"]["value"] == pytest.approx(roc_auc_score(labels, scores))
    precision = average_precision_score(labels, scores)
    assert found["scorers"]["dupq"]["average_precision"]["value"] == pytest.approx(precision)
    assert found["scorers"]["words"] != found["scorers"]["dupq"]
    kinds = {row["kind"]: row for row in found["kinds"]}
    sizes = {"paraphrase": 18, "opposite": 12, "aspect": 24, "agent": 12, "two near misses": 18, "hardest near miss": 3}
    assert {kind: row["pairs"] for kind, row in kinds.items()} == sizes
    all_wrong = sum(row["wrong"]["value"] * row["pairs"] for kind, row in kinds.items() if kind != "hardest near miss")
    assert all_wrong == pytest.approx((~right).sum())
    assert 0 < all_wrong < 84
    assert found["hardest"]["dupq"]["value"] < found["scorers"]["dupq"]["roc_auc"]["value"]
    assert "long_posts" not in results
    assert [row["part"] for row in results["posts_dev"]] == ["all", *worlds.PARTS]
    assert [row["pairs"] for row in results["posts_dev"]] == [78, 18, 42, 18]
    (folder / "long_posts.jsonl.xz").write_bytes((folder / "posts_dev.jsonl.xz").read_bytes())
    again = worlds.measure(pipeline, {"words": CosineScorer(WordEmbedder())}, resamples=20)
    assert again["long_posts"] == results["posts_dev"] == again["posts_dev"]


def test_posts_of_which_half_are_duplicates_are_decided_at_that_base_rate(
    folder: Path, pipeline: DuplicatePipeline
) -> None:
    rare = pipeline.with_base_rate(0.02)
    results = worlds.measure(rare, {}, resamples=5)["posts_dev"][0]["half"]
    assert results["shipped"]["flagged"]["value"] < results["with_base_rate(0.5)"]["flagged"]["value"]
    half = worlds.measure(rare.with_base_rate(0.5), {}, resamples=5)["posts_dev"][0]["half"]
    assert half["shipped"] == half["with_base_rate(0.5)"] == results["with_base_rate(0.5)"]


def test_the_hardest_near_miss_shares_most_words() -> None:
    found = worlds.hardest(world_pairs([question_cluster(thing) for thing in THINGS]))
    assert [(pair.question1, pair.question2, pair.kind) for pair in found] == [
        (f"How can I learn {thing}?", f"How can I forget {thing}?", "opposite") for thing in THINGS
    ]


def test_an_everyday_pair_is_right_by_its_decision_and_sure_by_its_probability(pipeline: DuplicatePipeline) -> None:
    rows = worlds.everyday(pipeline)
    assert [row["label"] for row in rows] == [1, 1, 0, 1, 0, 1]
    for row in rows:
        decided = pipeline.score(row["question1"], row["question2"])
        assert row["right"] == ((decided.decision == Decision.DUPLICATE) == (row["label"] == 1))
        assert row["sure"] == (abs(row["label"] - decided.probability) <= 1 - worlds.SURE)
    assert {row["right"] for row in rows} == {True, False}


def test_the_command_writes_figures_and_prints_a_table(
    folder: Path, pipeline: DuplicatePipeline, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(worlds.DuplicatePipeline, "from_pretrained", lambda _: pipeline)
    worlds.main(["--resamples", "5", "-o", str(folder / "worlds.json")])
    printed = capsys.readouterr().out
    written = (folder / "worlds.json").read_text(encoding="utf-8")
    accuracy = json.loads(written)["worlds_dev"]["accuracy"]["value"]
    assert f"accuracy at the shipped threshold: {accuracy:.3f}" in printed
    assert "chess" not in written + printed


def test_intervals_are_those_of_whole_clusters() -> None:
    values, labels = np.array([1, 1, 0, 0, 1, 0]), np.array([1, 0, 1, 0, 1, 0])
    cluster = ["a", "a", "b", "b", "c", "c"]
    found = resampled({"mean": mean(values), "half": mean_at_half(values, labels)}, cluster, 2000)
    # Three times the cluster of mean 0, or of mean 1, is one draw of 27; six times a 0 would be one of 64.
    assert found["mean"] == {"value": 0.5, "low": 0.0, "high": 1.0}
    assert found["half"]["value"] == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert roc_auc(labels, values)(np.array([1, 1, 1, 1, 0, 0])) == pytest.approx(roc_auc_score(labels[:4], values[:4]))
    assert mean_at_half(np.array([1, 0, 0, 0]), np.array([1, 0, 0, 0]))(np.ones(4, np.int64)) == 0.5
    assert mean_at_half(np.array([1, 0, 1, 0]), np.array([1, 1, 0, 0]))(np.array([3, 1, 1, 0])) == 0.875
