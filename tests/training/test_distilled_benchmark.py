"""The table of students and their teacher, on figures worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.distilled import compare, sample
from benchmarks.model import distilled
from tests.questions import labelled_table


def test_a_student_is_behind_by_what_it_ranks_worse() -> None:
    pairs = labelled_table(24)
    teacher = np.where(pairs.labels == 1, 2.0, -2.0)
    same, blind = compare([teacher, teacher, np.zeros(len(pairs))], pairs, resamples=20)[1:]
    assert same["behind"] == {"value": 0, "low": 0, "high": 0}
    assert same["distance"] == 0
    # A blind one's precision is the base rate.
    assert blind["behind"]["value"] == pytest.approx(1 - pairs.labels.mean())
    assert blind["behind"]["low"] <= blind["behind"]["value"] <= blind["behind"]["high"]
    assert blind["distance"] == pytest.approx(1 / (1 + np.exp(-2)) - 0.5)
    row = {"network": "blind", "learned": blind, "new": same}
    told = distilled({"command": "python -m benchmarks.distilled", "pairs": 1000, "rows": [row]}).splitlines()[-1]
    assert told.startswith("| blind | 0.600 (0.600 to 0.600) | +0.400")
    assert told.endswith("| 1.000 (1.000 to 1.000) | +0.000 (+0.000 to +0.000) | 0.000 |")


def test_the_pairs_drawn_are_the_same_each_time(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    pairs = labelled_table(24)
    rows = [f"{a},{b},{y}\n" for a, b, y in zip(pairs.left, pairs.right, pairs.labels, strict=True)]
    path.write_text("question1,question2,label\n" + "".join(rows), encoding="utf-8")
    drawn = sample(str(path), None, 50)
    assert len(drawn) == 50
    assert drawn.left == sample(str(path), None, 50).left
    assert set(zip(drawn.left, drawn.right, strict=True)) <= set(zip(pairs.left, pairs.right, strict=True))
