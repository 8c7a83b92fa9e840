"""What the table of the Siamese family says of results that are made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from benchmarks.family import tables
from benchmarks.family.runs import MADE_OF, NAMES, best_cut, cluster_pairs, draws, mean_of, whole_groups
from benchmarks.family.speed import put_together
from dupq.training.methods import METHODS
from tests.questions import labelled_table


def row(name: str, seed: int, precision: float, noise: float = 0.001, **others: Any) -> dict[str, Any]:
    values = precision + noise * np.random.default_rng(seed).normal(size=50)
    return {
        "name": name,
        "seed": seed,
        "setup": {
            "rows": 100,
            "steps": 9,
            "batch_size": 64,
            "learning_rate": 1e-4,
            "ensemble_of": "hybrid",
            "largest": 50,
        },
        "pairs": 40,
        "groups": 30,
        "base_rate": 0.37,
        "collapse": None,
        "metrics": {
            metric: {"value": value}
            for metric, value in (("average_precision", precision), ("accuracy", 0.8), ("ece_mass", 0.02))
        },
        "draws": {"average_precision": values.tolist(), "accuracy": (values + 0.1).tolist()},
        **others,
    }


def results(**precision: float) -> dict[str, list[dict[str, Any]]]:
    return {name: [row(name, seed, value) for seed in (0, 1, 2)] for name, value in precision.items()}


def test_an_order_that_holds_is_said_to_hold() -> None:
    found = results(**{name: 0.9 - 0.05 * place for place, name in enumerate(tables.ORDER)})
    assert "It holds: of its 4 steps 4 hold, 0 are reversed, and 0 are undecided" in tables.order_part(found)


def test_an_order_that_is_turned_about_is_said_not_to_hold() -> None:
    found = results(**{name: 0.7 + 0.05 * place for place, name in enumerate(tables.ORDER)})
    text = tables.order_part(found)
    assert "It does not hold: of its 4 steps 0 hold, 4 are reversed" in text
    assert text.strip().endswith("the order here is contrastive > triplet-hard > logistic > classification > hybrid.")
    assert "hybrid > classification is reversed: -0.050" in text


def test_what_the_seeds_do_not_settle_is_undecided() -> None:
    found = {
        name: [row(name, seed, 0.8 + 0.05 * (seed - 1) * (-1) ** place) for seed in (0, 1, 2)]
        for place, name in enumerate(tables.ORDER)
    }
    assert "It is not settled: of its 4 steps 0 hold, 0 are reversed, and 4 are undecided" in tables.order_part(found)
    del found["logistic"]
    assert "not told yet: no results of logistic" in tables.order_part(found)


def test_the_page_is_of_the_results_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "FOLDER", tmp_path)
    monkeypatch.setattr(tables, "FEWSHOT", tmp_path / "fewshot.json")
    monkeypatch.setattr(tables, "PAGE", tmp_path / "family.md")
    (tmp_path / "tiny").mkdir()
    for name in NAMES:
        made = row(name, 0, 0.8, collapse="flat" if name == "triplet-hard" else None)
        (tmp_path / "tiny" / f"{name}-0.json").write_text(json.dumps(made))
    (tmp_path / "fewshot.json").write_text(
        json.dumps(
            {
                "classes": 77,
                "questions": 3080,
                "draws": 20,
                "rows": [
                    {"network": "tiny", "shots": 1, "by": by, "value": 0.5, "low": 0.4, "high": 0.6}
                    for by in ("nearest", "centroid")
                ],
            }
        )
    )
    assert "Speeds were not measured" in tables.page()
    speeds = {"train_pairs_per_second": 1234.4, "score_pairs_per_second": 4321.0}
    told = {
        "threads": 4,
        "precision": "float32",
        "load": 3.2,
        "rows": {name: speeds for name in NAMES if name != "arc-1"},
    }
    (tmp_path / "speed-tiny.json").write_text(json.dumps(told))
    text = tables.page()
    assert "Speeds: float32, 4 threads, one method after the other, at a load of 3.2 in the end." in text
    assert text.count("| 1,234 | 4,321 | 1 |") == len(NAMES) - 1
    assert all(f"| `{name}`" in text for name in (*METHODS, *MADE_OF) if name != "dropout-contrast")
    assert "`triplet-hard` (told of a collapse with 1 of 1 seeds)" in text
    assert "| tiny | 1 | 0.500 (0.400 to 0.600) | 0.500 (0.400 to 0.600) |" in text
    assert len({line.count("|") for line in text.splitlines() if line.startswith("| `")}) == 1
    (tmp_path / "tiny" / "hybrid-1.json").write_text(json.dumps(row("hybrid", 1, 0.8, setup={"rows": 7})))
    with pytest.raises(SystemExit, match="2 setups"):
        tables.page()


def test_rows_are_drawn_by_whole_groups() -> None:
    table = labelled_table(40)
    part = whole_groups(table, 123)
    assert 100 < len(part) <= 123
    assert part.fingerprint == whole_groups(table, 123).fingerprint
    inside, outside = set(part.groups.tolist()), table.groups
    assert sum(group in inside for group in outside.tolist()) == len(part)
    assert len(whole_groups(table, 123, largest=10)) == len(part)
    assert len(whole_groups(table, 123, largest=9)) == 0


def test_draws_are_those_of_resampled_groups_and_the_same_for_every_method() -> None:
    table = labelled_table(20)
    rng = np.random.default_rng(0)
    scores = table.labels + rng.normal(size=len(table))
    found = draws(scores, table, 0.5)
    _, group = np.unique(table.groups, return_inverse=True)
    picked = np.random.default_rng(0).integers(0, 20, 20)
    rows = np.concatenate([np.flatnonzero(group == one) for one in picked])
    assert found["average_precision"][0] == pytest.approx(
        average_precision_score(table.labels[rows], scores[rows]), abs=1e-4
    )
    right = (scores[rows] >= 0.5) == (table.labels[rows] == 1)
    assert found["accuracy"][0] == pytest.approx(right.mean(), abs=1e-4)
    assert draws(np.exp(scores), table, np.exp(0.5)) == found


def test_the_best_cut_is_right_most_often() -> None:
    scores, labels = np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1])
    assert best_cut(scores, labels) in (0.8, 0.35)
    assert ((scores >= best_cut(scores, labels)) == labels).mean() == 0.75


def test_speeds_of_what_is_made_of_several_networks() -> None:
    def speeds(trained: float, scored: float) -> dict[str, float]:
        return {"train_pairs_per_second": trained, "score_pairs_per_second": scored}

    found = {"hybrid": speeds(300, 900), "dropout-contrast": speeds(100, 50), "cosent+ranking": speeds(100, 40)}
    made = put_together(found, "hybrid", 5)
    assert set(made) == set(MADE_OF)
    assert made["dropout-start"] == pytest.approx(speeds(50, 40))  # twice the steps for the same rows
    assert made["ensemble-clusters"] == pytest.approx(speeds(300, 300))
    assert made["ensemble-seeds"] == pytest.approx(speeds(60, 180))


def test_an_ensemble_is_a_mean_of_scores_of_one_spread() -> None:
    rows = [
        {
            "scores": {"validation": np.array([0.0, 2.0]) * scale, "test": np.array([1.0, 3.0]) * scale},
            "train_pairs_per_second": 10.0,
            "score_pairs_per_second": 20.0,
        }
        for scale in (1.0, 10.0)
    ]
    merged = mean_of(rows)
    assert merged["scores"]["test"].tolist() == [1.0, 3.0]
    assert merged["score_pairs_per_second"] == pytest.approx(10.0)


def test_pairs_are_parted_by_what_they_are_about() -> None:
    draw = np.random.default_rng(0)
    about = np.arange(90) % 3
    centres = 5 * np.eye(3)
    left, right = (centres[about] + 0.1 * draw.normal(size=(90, 3)) for _ in range(2))
    parts = cluster_pairs(left, right, 3, seed=1)
    assert np.array_equal(parts, cluster_pairs(right, left, 3, seed=1))
    assert all(len(set(parts[about == topic].tolist())) == 1 for topic in range(3))
    assert len(set(parts.tolist())) == 3
