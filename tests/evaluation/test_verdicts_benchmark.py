"""The simulator of `benchmarks.verdicts`, on clusters made here and networks that count words."""

from __future__ import annotations

import json
import lzma
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import verdicts
from data_scripts import clusters
from dupq import DuplicatePipeline
from dupq.index.sampling import STRATA
from tests.evaluation.test_worlds_benchmark import pipeline, post_cluster
from tests.questions import THINGS

__all__ = ["pipeline"]


def cluster_of(thing: str) -> dict[str, Any]:
    """A cluster of questions that are near to each other and to no other, duplicates a little more."""
    same = ("{0} alpha {0}s beta {0}er", "{0} {0}s beta gamma {0}er", "{0} {0}er alpha delta", "{0}s {0} eta theta")
    near = ("{0} alpha {0}s iota", "{0} kappa {0}er lambda", "{0}s beta {0} mu", "{0} nu xi {0}er omicron pi")
    return {
        "w": "hobbies",
        "s": [text.format(thing) for text in same],
        "d": [["aspect", text.format(thing)] for text in near],
    }


@pytest.fixture
def forum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pipeline: DuplicatePipeline) -> verdicts.Forum:
    # Other things, because a text has one place among the clusters.
    for name, made, things in (
        ("worlds_dev", cluster_of, THINGS[:24]),
        ("posts_dev", post_cluster, THINGS[24:27]),
    ):
        with lzma.open(tmp_path / f"{name}.jsonl.xz", "wt", encoding="utf-8") as stream:
            stream.writelines(json.dumps(made(thing)) + "\n" for thing in things)
    monkeypatch.setattr(clusters, "WORLDS", tmp_path)
    texts, asked = verdicts.written_questions()
    return verdicts.judge(pipeline, texts, asked, tmp_path / "judged.db")


def test_the_truth_is_that_of_the_labels(forum: verdicts.Forum) -> None:
    labels = {}
    for pairs, name in ((clusters.world_pairs, "worlds_dev"), (clusters.post_pairs, "posts_dev")):
        for pair in pairs(clusters.read_clusters(name)):
            labels[frozenset((pair.question1, pair.question2))] = pair.label
    found = 0
    for one, other, truth in zip(forum.one, forum.other, forum.truth, strict=True):
        label = labels.get(frozenset((forum.texts[one], forum.texts[other])), 0)
        assert truth == bool(label)
        found += label
    assert found > 20


def test_the_table_shows_the_bias(forum: verdicts.Forum, pipeline: DuplicatePipeline, tmp_path: Path) -> None:
    results = verdicts.measure(forum, pipeline.candidate_decider, steps=(60, 200), seeds=6)
    few, many = results["steps"]["60"], results["steps"]["200"]
    assert abs(many["recall bias without weights"]["value"]) > 0.05 > abs(many["recall bias"]["value"])
    assert few["recall width"]["value"] > many["recall width"]["value"]
    careful = verdicts.measure(forum, pipeline.candidate_decider, steps=(200,), seeds=6, error=0.0)
    figures = careful["steps"]["200"]
    # Without errors the moderator's answers are the labels.
    assert figures["precision off"]["value"] == pytest.approx(figures["precision bias"]["value"])
    results["careful"] = careful
    json.dumps(results, allow_nan=False)
    lines = verdicts.table(results).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["60", "200"]
    assert len({line.count("|") for line in lines}) == 1


def test_all_pairs_answered_leave_no_error(forum: verdicts.Forum, pipeline: DuplicatePipeline) -> None:
    m = len(forum.one)
    figures = verdicts.measure(forum, pipeline.candidate_decider, steps=(m,), seeds=2, error=0.0)["steps"][str(m)]
    assert figures["recall bias"]["value"] == pytest.approx(0, abs=1e-9)
    assert figures["precision bias"]["value"] == pytest.approx(0, abs=1e-9)
    assert figures["recall holds"]["value"] == 1


def test_the_sample_has_its_probabilities(forum: verdicts.Forum) -> None:
    """The weights 1 / pi of the sample sum to the number of judged pairs on average."""
    sums = []
    for seed in range(60):
        draws = verdicts.draw(forum, seed, 0.0)
        _, answered, now = next(verdicts.reviewed(draws, [100]))
        pairs = verdicts.judged_pairs(forum, draws, answered, now)
        inside = pairs.inclusion > 0
        assert (answered[inside]).all()
        assert pairs.audited[~answered].sum() == 0
        assert answered.sum() == 100
        sums.append((1 / pairs.inclusion[inside]).sum())
    assert {*draws.strata} <= {*STRATA}
    error = np.std(sums) / np.sqrt(len(sums))
    assert abs(np.mean(sums) - len(forum.one)) < 4 * error


def test_the_index_agrees_with_the_arrays(forum: verdicts.Forum, pipeline: DuplicatePipeline, tmp_path: Path) -> None:
    found = verdicts.through_index(pipeline, forum, tmp_path / "judged.db", verdicts=120, error=0.1)
    assert found["verdicts"] == 120
    assert 0 < found["wrong"] < 40
    for name in ("precision", "recall", "base_rate"):
        assert found[name]["index"] == pytest.approx(found[name]["arrays"], abs=1e-9)
    assert found["calibrated"]["index"] == pytest.approx(found["calibrated"]["arrays"], abs=1e-6)


def test_judging_goes_on_where_it_was_stopped(
    forum: verdicts.Forum, pipeline: DuplicatePipeline, tmp_path: Path
) -> None:
    again = verdicts.judge(pipeline, forum.texts, forum.asked, tmp_path / "judged.db")
    assert (again.scores == forum.scores).all()
    (tmp_path / "judged.judged").unlink()
    once_more = verdicts.judge(pipeline, forum.texts, forum.asked, tmp_path / "judged.db")
    assert (once_more.one == forum.one).all()
    assert replace(once_more, texts=()).scores.tolist() == forum.scores.tolist()
