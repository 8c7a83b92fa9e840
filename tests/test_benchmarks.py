"""The tables of README and the figures on other data sets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import elsewhere, readme
from benchmarks.search import tables as search_tables
from dupq.calibration.calibrators import PlattCalibrator
from dupq.data.pairs import PairTable
from dupq.decisions.decider import Decider
from dupq.decisions.decision_rule import fit_rule

METRIC = {"value": 0.5, "low": 0.4, "high": 0.6}
BOTH = {"roc_auc": METRIC, "average_precision": METRIC}


def rows_of(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]


def test_a_kind_of_text_without_results_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readme, "RESULTS", tmp_path)
    assert [row[3] for row in rows_of(readme.overview())] == ["average precision", "accuracy", "ECE (0 is best)"]
    assert {len(row) for row in rows_of(readme.overview())} == {5}


def test_every_kind_of_text_with_results_has_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scorers = {"dupq": BOTH, "all-mpnet-base-v2": {**BOTH, "roc_auc": METRIC | {"value": 0.25}}}
    clusters = {"pairs": 1234, "scorers": scorers, "duplicates": 0.25}
    ours = {**BOTH, "recall_at_10": METRIC}
    results = {
        "worlds": {"worlds_dev": clusters, "posts_dev": [clusters, clusters | {"pairs": 9}]},
        "elsewhere": {"rows": [{"name": "PARADE", "pairs": 7, "duplicates": 0.5, "metrics": ours, "encoders": {}}]},
        "contrast": {"rows": [{"kind": "all", "pairs": 8, "duplicates": 0.45, "error": METRIC}]},
        "mined": {"base_rate": 0.044, "metrics": {"precision": METRIC, "recall": METRIC}},
        "retrieval": {"texts": 5000, "queries": 100, "rows": {"dupq": ours, "all-MiniLM-L6-v2": ours}},
    }
    for name, result in results.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(result), encoding="utf-8")
    monkeypatch.setattr(readme, "RESULTS", tmp_path)
    cells = "0.500 (0.400-0.600)"
    assert rows_of(readme.overview())[3:] == [
        ["paraphrases and near misses", "1,234", "25%", "ROC AUC", cells, "-", "0.250"],
        ["", "", "", "average precision", cells, "-", "0.500"],
        ["forum posts, up to 260 words", "1,234", "25%", "ROC AUC", cells, "-", "0.250"],
        ["definitions (PARADE)", "7", "50%", "ROC AUC", cells, "-", "-"],
        ["one word or role changed by rule", "8", "45%", "decided wrongly (0 is best)", cells, "-", "-"],
        ["pairs mined from Quora", "-", "4%", "precision of flagged pairs", cells, "-", "-"],
        ["", "", "", "share of duplicates flagged", cells, "-", "-"],
        ["search among 5,000 texts", "100", "-", "recall@10", cells, "0.500", "-"],
    ]


def forum(pairs: int, slope: float, offset: float) -> tuple[np.ndarray, PairTable]:
    """Pairs in question groups of three, with log-odds slope * score + offset."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=pairs) * 2
    labels = rng.random(pairs) < 1 / (1 + np.exp(-slope * scores - offset))
    left = [f"question {number // 3}" for number in range(pairs)]
    return scores, PairTable(left, [f"answer {number}" for number in range(pairs)], labels.astype(np.int8))


@pytest.fixture(scope="module")
def decider() -> Decider:
    scores, pairs = forum(3000, 1, 0)
    calibrator = PlattCalibrator(base_rate=0.5, pairs=len(pairs), slope=1.0, intercept=0.0)
    return Decider(calibrator, fit_rule(scores, pairs.labels, pairs.groups, "accuracy"), 0.5)


def test_a_calibrator_that_carries_over_has_no_debiased_error(decider: Decider) -> None:
    scores, pairs = forum(4000, 1, 0)
    found = elsewhere.decided(decider, scores, pairs, 20)
    assert found["ece"]["value"] > 0.01
    assert found["ece_debiased"]["value"] < 0.005
    assert found["accuracy"]["value"] == pytest.approx(0.75, abs=0.03)


def test_labels_of_a_forum_lower_its_calibration_error(decider: Decider) -> None:
    scores, pairs = forum(3000, 0.3, -1)
    before = elsewhere.decided(decider, scores, pairs, 0)["ece_debiased"]["value"]
    after = elsewhere.adapted(decider, scores, pairs)
    assert after is not None
    assert after["ece_debiased"]["value"] < 0.05 < 0.1 < before
    assert elsewhere.adapted(decider, scores[:300], pairs.take(np.arange(300))) is None


def test_labelled_pairs_share_no_group_with_those_measured() -> None:
    _, pairs = forum(900, 1, 0)
    draws = list(elsewhere.labelled_draws(pairs))
    assert len({tuple(labelled) for labelled, _ in draws}) == elsewhere.DRAWS
    for labelled, rest in draws:
        assert len(labelled) == elsewhere.LABELS
        assert len(rest) >= 900 - elsewhere.LABELS - 2
        assert not set(pairs.groups[labelled]) & set(pairs.groups[rest])


def test_the_table_of_the_exact_search_has_the_median_ratio_of_whole_rounds() -> None:
    def row(seconds: float, missed: int) -> dict[str, float]:
        return {"seconds": seconds, "cpu_seconds": 2 * seconds, "missed": missed, "peak_mb": 9}

    rounds = [{"dupq": row(1, 0), "paraphrase_mining": row(ratio, 3)} for ratio in (10, 30, 20)] + [{"dupq": row(1, 0)}]
    settings = {"questions": 7, "dimensions": 4, "threshold": 0.8, "threads": 1, "top_k": 100}
    settings |= {"versions": {"dupq": "0", "sentence-transformers": "6"}}
    text = search_tables.speed(
        {"rounds": rounds, "settings": settings, "truth": {"pairs": 5, "most_neighbours": 2, "seconds": 1}}
    )
    assert rows_of(text)[:2] == [
        ["dupq, exact search 0", "1.0", "2.0", "0", "9"],
        ["sentence-transformers, paraphrase_mining 6", "20.0", "40.0", "3", "9"],
    ]
    assert "20.0 (10.0-30.0) in seconds" in text
    assert "paired rounds: 3." in text
    assert "Not measured" in search_tables.speed({})


def test_pages_without_results_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readme, "RESULTS", tmp_path)
    names = [name for name in readme.TABLES if name.startswith(("roofline_", "own_graph"))]
    assert len(names) == 10
    assert {readme.TABLES[name]() for name in names} == {"It is not measured yet.\n"}


def test_a_benchmark_rewrites_its_own_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(readme.TABLES, "own_graph", lambda: "fresh\n")
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- table:own_graph -->\nstale\n<!-- end -->\nb\n", encoding="utf-8")
    readme.rewrite(page)
    assert page.read_text(encoding="utf-8") == "a\n<!-- table:own_graph -->\nfresh\n<!-- end -->\nb\n"
