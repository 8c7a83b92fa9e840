"""The family trained on near misses: its rows, its figures, and what the page answers of results that are made up."""

from __future__ import annotations

import argparse
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from benchmarks.family import answers, picture, plan, results, runs, sets, tables
from benchmarks.family.runs import MADE_OF, NAMES, SEEDED, Family, is_fixed, near_miss_figures
from benchmarks.family.stages import CROSS_ENCODERS, STAGES, stage_of
from data_scripts.clusters import HELD_OUT_WORLDS, post_pairs, read_clusters, world_pairs, world_texts
from dupq.data.writing import write_rows
from dupq.training.methods import METHODS
from tests.networks import save_tiny_base
from tests.questions import THINGS, labelled_table, question_cluster

FEW = 8


@pytest.fixture
def few_pairs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Test sets of few clusters."""
    made = {
        sets.WORLDS: tuple(world_pairs([question_cluster(thing) for thing in THINGS[:FEW]])),
        sets.POSTS: tuple(post_pairs(read_clusters(sets.POSTS)[:2])),
    }
    monkeypatch.setattr(sets, "measured_pairs", made.__getitem__)
    results._clusters.cache_clear()
    yield
    results._clusters.cache_clear()


# ---- stages ---------------------------------------------------------------------------------------------------------


def test_every_cross_encoder_has_a_stage() -> None:
    trained = {name for name, method in METHODS.items() if method.kind == "cross-encoder" and not method.metric}
    assert set(CROSS_ENCODERS) == trained
    assert {stage_of(name) for name in METHODS} == set(STAGES)
    assert [stage_of(name) for name in ("classification", "hybrid", "triplet-hard", "fisher")] == [
        "early",
        "merged",
        "late",
        "late",
    ]


# ---- rows -----------------------------------------------------------------------------------------------------------


def test_near_misses_that_train_are_of_other_worlds_than_those_of_validation_and_of_no_test() -> None:
    rows, held = sets.worlds_rows(600, held_out=False), sets.worlds_rows(300, held_out=True, times=2)
    assert (len(rows), len(held)) == (600, 300)
    texts = {name: {*table.left, *table.right} for name, table in (("rows", rows), ("held", held))}
    clusters = read_clusters("worlds_train")
    assert texts["held"] <= {*world_texts([row for row in clusters if row["w"] in HELD_OUT_WORLDS])}
    assert texts["rows"] <= {*world_texts([row for row in clusters if row["w"] not in HELD_OUT_WORLDS])}
    assert not (texts["rows"] | texts["held"]) & {*world_texts(read_clusters(sets.WORLDS))}
    assert rows.base_rate == pytest.approx(1 / 3, abs=0.02)
    assert rows.fingerprint == sets.worlds_rows(600, held_out=False).fingerprint


@pytest.mark.parametrize(
    ("texts", "differ"),
    [
        (("How do I open a door?", "How do I close a door?"), 1),
        (("does a dog bite a cat", "Does a cat bite a dog?"), 0),
        (("why go", "why did they go"), 2),
    ],
)
def test_words_that_differ_are_counted(texts: tuple[str, str], differ: int) -> None:
    pair = sets.ClusterPair(*texts, 0, "agent", 0, "")
    assert sets.words_differ(pair) == differ
    assert sets.is_close(pair)
    assert not sets.is_close(sets.ClusterPair(*texts, 1, sets.PARAPHRASE, 0, ""))
    assert not sets.is_close(sets.ClusterPair(*texts, 0, sets.TWO_NEAR_MISSES, 0, ""))


# ---- figures of a run -----------------------------------------------------------------------------------------------


def test_roc_auc_under_many_weightings_is_that_of_scikit_learn() -> None:
    draw = np.random.default_rng(0)
    labels, scores = draw.integers(0, 2, 200), draw.integers(0, 12, 200).astype(np.float64)
    weights = draw.integers(0, 3, (5, 200))
    slow = [roc_auc_score(labels, scores, sample_weight=weight) for weight in weights]
    assert runs.weighted_roc_auc(labels, scores, weights) == pytest.approx(slow, abs=1e-12)
    assert runs.weighted_roc_auc(labels, scores, np.stack([labels, labels == 0])).tolist() == [0.5, 0.5]


def test_figures_of_near_misses_are_those_of_a_loop(few_pairs: None) -> None:
    pairs = sets.measured_pairs(sets.WORLDS)
    labels = np.array([pair.label for pair in pairs])
    scores = labels + np.random.default_rng(0).normal(size=len(pairs))
    found, drawn = near_miss_figures(scores, pairs, 0.5)
    close = [sets.is_close(pair) or pair.label == 1 for pair in pairs]
    assert 0 < sum(close) < len(pairs)
    assert found["roc_auc"]["value"] == pytest.approx(roc_auc_score(labels, scores))
    assert found["close"]["value"] == pytest.approx(roc_auc_score(labels[close], scores[close]))
    picked = np.random.default_rng(0).integers(0, FEW, FEW)
    rows = [row for cluster in picked for row, pair in enumerate(pairs) if pair.cluster == cluster]
    assert drawn["roc_auc"][0] == pytest.approx(roc_auc_score(labels[rows], scores[rows]), abs=1e-4)
    assert set(found["kinds"]) == {pair.kind for pair in pairs if not pair.label} - {sets.TWO_NEAR_MISSES}
    for kind in found["kinds"]:
        of = [pair.kind == kind or pair.label == 1 for pair in pairs]
        assert found["kinds"][kind]["value"] == pytest.approx(roc_auc_score(labels[of], scores[of]))
        drawn_rows = [at for at in rows if of[at]]
        slow = roc_auc_score(labels[drawn_rows], scores[drawn_rows])
        assert drawn[kind][0] == pytest.approx(slow, abs=1e-4)
        assert len(drawn[kind]) == min(runs.KIND_RESAMPLES, runs.RESAMPLES)
    row = {"near_misses": {sets.WORLDS: found}}
    for kind in {pair.kind for pair in pairs}:
        errors = [
            (score >= 0.5) != label for score, label, p in zip(scores, labels, pairs, strict=True) if p.kind == kind
        ]
        assert found["wrong"][kind]["value"] == pytest.approx(np.mean(errors))
        resample = [(scores[at] >= 0.5) != labels[at] for at in rows if pairs[at].kind == kind]
        assert results.wrong(kind)(row)[0] == pytest.approx(np.mean(resample))
    both = (results.wrong("aspect")(row) + results.wrong(sets.PARAPHRASE)(row)) / 2
    assert np.array_equal(results.balanced("aspect")(row), both)


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., argparse.Namespace]:
    """The options of a run of tiny networks on a few pairs."""
    for place, name in enumerate(("train", "validation", "calibration", "test")):
        table = labelled_table(24 * (place + 1)).take(np.arange(240 * place, 240 * (place + 1)))
        rows = zip(table.left, table.right, table.labels.tolist(), strict=True)
        made = ({"question1": a, "question2": b, "label": c, "natural": 1} for a, b, c in rows)
        write_rows(tmp_path / f"{name}.jsonl", made, ["question1", "question2", "label", "natural"])
    save_tiny_base(tmp_path / "tiny")
    monkeypatch.setattr(runs, "FOLDER", tmp_path / "results")
    monkeypatch.setattr(runs, "RESAMPLES", 10)

    def parsed(*more: str) -> argparse.Namespace:
        parser = argparse.ArgumentParser()
        runs.add_options(parser)
        where = ["--splits", str(tmp_path), "--base", str(tmp_path / "tiny"), "--work", str(tmp_path / "work")]
        small = ["--rows", "120", "--steps", "2", "--batch-size", "8", "--held", "1000", "--max-length", "16"]
        return parser.parse_args([*where, *small, "--seeds", "0", *more])

    return parsed


def test_a_run_measures_both_training_sets_and_is_not_repeated(
    few_pairs: None, arguments: Callable[..., argparse.Namespace], monkeypatch: pytest.MonkeyPatch
) -> None:
    args = arguments("--methods", "contrastive", "classification")
    runs.run(args)
    found = results.of_trainings(runs.FOLDER / "tiny")
    assert {training: sorted(rows) for training, rows in found.items()} == {
        training: ["classification", "contrastive"] for training in sets.TRAININGS
    }
    alone, mixed = (found[training]["contrastive"][0] for training in sets.TRAININGS)
    assert alone["setup"]["rows"] == mixed["setup"]["rows"]
    assert alone["setup"]["fingerprints"]["train"] != mixed["setup"]["fingerprints"]["train"]
    assert alone["setup"]["fingerprints"]["test"] == mixed["setup"]["fingerprints"]["test"]
    assert set(mixed["setup"]["fingerprints"]) - set(alone["setup"]["fingerprints"]) == {"worlds_validation"}
    assert set(alone["near_misses"]) == {sets.WORLDS, sets.POSTS}
    assert {len(values) for values in alone["draws"].values()} == {10}
    monkeypatch.setattr(Family, "run", None)
    runs.run(args)  # a run that is done is not repeated
    with pytest.raises(TypeError):
        runs.run(arguments("--methods", "contrastive", "--steps", "3"))


def test_a_run_of_another_process_is_left_to_it(
    few_pairs: None, arguments: Callable[..., argparse.Namespace], monkeypatch: pytest.MonkeyPatch
) -> None:
    args = arguments("--methods", "contrastive", "--training", sets.QUORA)
    monkeypatch.setattr(Family, "run", None)
    family = Family(args)
    with family.claimed("contrastive", 0) as mine:
        assert mine
        runs.run(args)
    with pytest.raises(TypeError):
        runs.run(args)


def test_no_run_starts_after_its_hours(
    few_pairs: None, arguments: Callable[..., argparse.Namespace], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Family, "run", None)
    runs.run(arguments("--methods", "contrastive", "--hours", "-1"))


def test_scores_of_products_in_bfloat16_are_near_those_in_float32() -> None:
    draw = torch.Generator().manual_seed(0)
    rows, weights = torch.randn(64, 512, generator=draw), torch.randn(256, 512, generator=draw)
    exact = torch.nn.functional.linear(rows, weights)
    with runs.products_in("float32"):
        assert torch.equal(torch.nn.functional.linear(rows, weights), exact)
    with runs.products_in("bfloat16"):
        near = torch.nn.functional.linear(rows, weights)
    assert near.dtype == torch.float32
    assert float((near - exact).abs().max() / exact.std()) < 0.05
    assert torch.equal(torch.nn.functional.linear(rows, weights), exact)


def test_half_of_the_mixed_rows_are_near_misses(few_pairs: None, arguments: Callable[..., argparse.Namespace]) -> None:
    args = arguments()
    alone, mixed = (Family(args, training) for training in sets.TRAININGS)
    quora = {*alone.pairs.left, *alone.pairs.right}
    inside = [text in quora for text in mixed.pairs.left]
    assert sum(inside) == len(mixed.pairs) / 2 == 60
    worlds = {*world_texts(read_clusters("worlds_train"))}
    assert {text for text, kept in zip(mixed.pairs.left, inside, strict=True) if not kept} <= worlds


def test_one_seed_of_every_method_comes_first() -> None:
    methods = ["contrastive", "fisher", SEEDED, "hybrid"]
    order = list(runs.plan(methods, [0, 1], sets.TRAININGS))
    assert order[:2] == [("contrastive", 0, training) for training in sets.TRAININGS]
    assert [name for name, *_ in order[::2]] == ["contrastive", "fisher", "hybrid", "contrastive", "hybrid", SEEDED]
    assert len(set(order)) == len(order)


def test_hours_follow_from_speeds(few_pairs: None, arguments: Callable[..., argparse.Namespace]) -> None:
    family = Family(arguments())
    speeds = {name: {"train_pairs_per_second": 10.0, "score_pairs_per_second": 20.0} for name in ("hybrid", "arc-1")}
    held = sum(len(table) * (plan.POST if name == sets.POSTS else 1) for name, table in family.held.items())
    assert plan.seconds(family, "hybrid", speeds) == pytest.approx(16 / 10 + held / 20 + plan.BESIDE)
    assert plan.seconds(family, "arc-2", speeds) == plan.seconds(family, "hybrid", speeds)
    assert plan.seconds(family, "ranking", speeds) < plan.seconds(family, "hybrid", speeds)
    assert plan.seconds(family, "fisher", speeds) == pytest.approx(120 / 10 + held / 20 + plan.BESIDE)
    assert plan.seconds(family, SEEDED, speeds) == plan.BESIDE


# ---- pooled figures -------------------------------------------------------------------------------------------------


def test_rank_correlation_is_spearmans() -> None:
    draw = np.random.default_rng(0)
    one, other = draw.normal(size=(9, 4)), draw.normal(size=(9, 4)).round()
    slow = [spearmanr(one[:, column], other[:, column]).statistic for column in range(4)]
    assert results.rank_correlation(one, other) == pytest.approx(slow)


def test_an_order_that_stays_is_as_like_as_two_seeds_and_one_that_turns_is_not() -> None:
    draw = np.random.default_rng(0)
    base = np.arange(12.0)[:, None, None]
    noisy = lambda values: values + draw.normal(size=(12, 3, 50))  # noqa: E731
    across, within = results.order_change(noisy(base), noisy(base))
    low, high = results.bounds(within - across)[1:]
    assert low < 0 < high
    across, within = results.order_change(noisy(base), noisy(base[::-1]))
    assert results.bounds(within - across)[1] > 1
    assert results.bounds(across)[0] < -0.8


def test_a_difference_of_classes_spreads_by_method() -> None:
    same = np.zeros((4, 3, 50))
    varied = same + np.array([0.0, 0.0, 0.0, 1.0])[:, None, None]
    value, low, high = results.bounds(results.class_difference(varied, same))
    assert value == pytest.approx(0.25, abs=0.06)
    assert low == 0
    assert high >= 0.5
    assert results.bounds(results.class_difference(same + 1, same)) == (1, 1, 1)


# ---- pages ----------------------------------------------------------------------------------------------------------


def made_up(name: str, seed: int, training: str, auc: float) -> dict[str, Any]:
    """A result; the decisions are right where the ROC AUC is above one half."""
    draw = np.random.default_rng([seed, len(name), training == sets.MIXED])
    spread = lambda value: (value + 0.002 * draw.normal(size=runs.RESAMPLES)).tolist()  # noqa: E731
    near_misses = {}
    for split in sets.MEASURED:
        labels = np.array([pair.label for pair in sets.measured_pairs(split)])
        flagged = labels == (1 if auc > 0.5 else 0)
        near_misses[split] = {"roc_auc": {"value": auc}, "flagged": np.packbits(flagged).tobytes().hex()}
    setup = {"rows": 100, "steps": 9, "batch_size": 64, "learning_rate": 1e-4, "ensemble_of": "hybrid", "largest": 50}
    metrics = {"average_precision": 0.6, "accuracy": 0.8, "ece_mass": 0.02}
    kinds = {pair.kind for pair in sets.measured_pairs(sets.WORLDS) if not pair.label} - {sets.TWO_NEAR_MISSES}
    measures = {*answers.MEASURES, *(f"{sets.WORLDS} {kind}" for kind in kinds)} - {results.QUORA_AP}
    aucs = {measure: spread(auc) for measure in sorted(measures)}
    return {
        "name": name,
        "seed": seed,
        "setup": setup | {"training": training},
        "pairs": 40,
        "groups": 30,
        "base_rate": 0.37,
        "collapse": None,
        "metrics": {key: {"value": value} for key, value in metrics.items()},
        "near_misses": near_misses,
        "draws": {"average_precision": spread(0.6), "accuracy": spread(0.8), **aucs},
    }


@pytest.fixture
def folder(few_pairs: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Results of all methods: early ones are better with near misses, and no others differ."""
    monkeypatch.setattr(tables, "FOLDER", tmp_path)
    monkeypatch.setattr(tables, "FEWSHOT", tmp_path / "fewshot.json")
    for training in sets.TRAININGS:
        (tmp_path / "tiny" / training).mkdir(parents=True)
        for place, name in enumerate(NAMES):
            early = name in METHODS and stage_of(name) == "early"
            auc = (
                0.4 + 0.001 * place if training == sets.QUORA else 0.9 - 0.001 * place if early else 0.7 - 0.001 * place
            )
            for seed in (0,) if is_fixed(name) or name == SEEDED else (0, 1, 2):
                path = tmp_path / "tiny" / training / f"{name}-{seed}.json"
                path.write_text(json.dumps(made_up(name, seed, training, auc)))
    return tmp_path / "tiny"


def test_the_answers_follow_from_the_intervals(folder: Path) -> None:
    text = answers.page([folder])
    first, second = re.findall(r"^- Trained on .*: \*\*(.*)\*\*\. Mean ROC AUC of", text, re.MULTILINE)
    assert (first, second) == ("yes", "yes")  # early methods stand behind the others in the list
    assert "- average precision on Quora: **undecided**" in text
    assert "- ROC AUC on near misses: **the order changes**" in text
    assert "| aspect | 64 | 1.00 | 1.00 | 1.00 | +0.00 (+0.00 to +0.00) | 0.00 | 0.00 | 0.00 |" in text
    assert re.search(
        r"^\| aspect \| 64 \| 0.4\d \| 0.4\d \| 0.4\d \|.*\| \+0.1\d \(.*\) \*\*early\*\* \|$", text, re.MULTILINE
    )
    assert "Recommended to decide a pair: `classification`" in text
    assert "Recommended to search by stored vectors: `cosent+ranking`" in text
    assert all(text.count(f"| `{name}` |") == 1 for name in NAMES)
    assert answers.NOT_YET not in text
    assert len({line.count("|") for line in text.splitlines() if line.startswith("| `")}) == 1


def test_classes_without_a_difference_are_undecided(folder: Path) -> None:
    draw = np.random.default_rng(0)
    for path in (folder / sets.QUORA).glob("*.json"):
        row = json.loads(path.read_text())
        row["draws"][results.CLOSE_AUC] = (0.5 + 0.01 * draw.normal(size=runs.RESAMPLES)).tolist()
        path.write_text(json.dumps(row))
    assert "- Trained on Quora rows: **undecided**." in answers.page([folder])


def test_one_method_does_not_stand_for_its_class(folder: Path) -> None:
    for name in CROSS_ENCODERS:
        for path in folder.rglob(f"{name}-*.json"):
            if stage_of(name) == "early" and name != "classification":
                path.unlink()
    text = answers.page([folder])
    few = "- Trained on Quora rows: **not answered**; too few early methods were measured (`classification`)."
    assert f"{few} Merged less late: +0.0" in text
    assert text.count("merged less late") == 4  # two tables, two training sets
    assert re.search(r"^\| aspect \| 64 \|.*\| [+-]0.0\d \(.*\) \*\*\w+\*\* \|", text, re.MULTILINE)


def test_what_is_not_measured_is_said(folder: Path) -> None:
    for path in [*(folder / sets.MIXED).glob("*.json"), *(folder / sets.QUORA).glob("hybrid-*.json")]:
        path.unlink()
    text = answers.page([folder])
    assert f"- Trained on Quora rows and near misses: {answers.NOT_YET}." in text
    assert f"It is {answers.NOT_YET}" in text
    assert text.count("not measured yet") > 100
    assert "Not measured: `hybrid`." in text
    assert "![" not in text
    assert "Not measured: `hybrid`." in tables.page()
    with pytest.raises(SystemExit, match="lacks results of cosent"):
        results.best_methods(folder)


def test_the_best_methods_are_chosen_by_both_tests(folder: Path) -> None:
    for path in folder.rglob("angle-*.json"):
        row = json.loads(path.read_text())
        row["metrics"]["average_precision"]["value"] = 0.99
        path.write_text(json.dumps(row))
    best = results.best_methods(folder, 6)
    assert best[0] == "angle"
    assert {stage_of(name) for name in best[1:]} == {"early"}


def test_the_picture_has_an_arrow_a_method(folder: Path) -> None:
    svg = picture.picture(folder)
    tree = ElementTree.fromstring(svg)
    titles = [title.text or "" for title in tree.iter("{http://www.w3.org/2000/svg}title")]
    assert sorted(title.partition(":")[0] for title in titles) == sorted(name for name in NAMES if name not in MADE_OF)
    assert "prefers-color-scheme: dark" in svg


def test_names_cover_neither_each_other_nor_ends() -> None:
    arrows = {name: ((0.6, 0.4), (0.6 + 0.001 * place, 0.7)) for place, name in enumerate(METHODS)}
    tree = ElementTree.fromstring(picture.draw(arrows, "from tiny", 0.36))
    texts = tree.iter("{http://www.w3.org/2000/svg}text")
    boxes = []
    for text in texts:
        if (text.text or "") in METHODS:
            x, y = float(text.attrib["x"]), float(text.attrib["y"])
            boxes.append((x, y - 11, x + 6.4 * len(text.text or ""), y + 3))
    assert 1 < len(boxes) < len(METHODS)
    for place, (a, b, c, d) in enumerate(boxes):
        assert all(not (a < g and e < c and b < h and f < d) for e, f, g, h in boxes[:place])


def test_every_page_is_written_and_checked(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "PAGE", tmp_path / "family.md")
    monkeypatch.setattr(answers, "PAGE", tmp_path / "docs" / "explanation" / "family.md")
    monkeypatch.setattr(picture, "place", lambda encoder: tmp_path / "docs" / "_static" / f"family-{encoder}.svg")
    answers.PAGE.parent.mkdir(parents=True)
    (tmp_path / "docs" / "_static").mkdir()
    tables.run(argparse.Namespace(check=False))
    assert "(../_static/family-tiny.svg)" in answers.PAGE.read_text(encoding="utf-8")
    assert "## tiny, trained on Quora rows and near misses: near misses" in tables.PAGE.read_text(encoding="utf-8")
    with pytest.raises(SystemExit) as left:
        tables.run(argparse.Namespace(check=True))
    assert left.value.code == 0
    picture.place("tiny").write_text("")
    with pytest.raises(SystemExit) as left:
        tables.run(argparse.Namespace(check=True))
    assert left.value.code == 1
