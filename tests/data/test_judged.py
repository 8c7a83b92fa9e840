"""Judged candidates from a file: labels, weights, and rows without a label."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dupq.data.judged import load_judged
from dupq.data.reading import Columns, ReadReport
from dupq.errors import InputError

ROWS = (
    "question1,question2,label,weight\n"
    "a?,b?,1,2.5\n"
    "c?,d?,?,9\n"
    "e?,f?,,9\n"
    "g?,h?,0,1e1\n"
)  # fmt: skip


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_labels_and_weights_are_read_and_the_undecided_left_out(tmp_path: Path) -> None:
    report = ReadReport()
    pairs, weights = load_judged(write(tmp_path / "judged.csv", ROWS), report=report)
    assert (pairs.left, pairs.labels.tolist(), weights.tolist()) == (["a?", "g?"], [1, 0], [2.5, 10.0])
    assert pairs.rows is not None
    assert pairs.rows.tolist() == [1, 4]
    assert any("2 rows without a label are left out" in note for note in report.notes)
    assert any("'weight' is read as sampling weights" in note for note in report.notes)


def test_columns_can_be_named_and_a_file_may_have_no_weight(tmp_path: Path) -> None:
    path = write(tmp_path / "judged.csv", "question1,question2,verdict,times\na?,b?,same,3\nc?,d?,other,4\n")
    columns = Columns(label="verdict", labels={"same": 1, "other": 0})
    pairs, weights = load_judged(path, columns=columns)
    assert (pairs.labels.tolist(), weights.tolist()) == ([1, 0], [1.0, 1.0])
    assert load_judged(path, columns=columns, weight_column="times")[1].tolist() == [3.0, 4.0]


def test_rows_of_python_are_read() -> None:
    rows = [{"question1": "a?", "question2": "b?", "label": label} for label in (1, None, 0, "?")]
    pairs, weights = load_judged(rows)
    assert pairs.labels.tolist() == [1, 0]
    assert np.array_equal(weights, [1, 1])


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (ROWS.replace("2.5", "-1"), {}, "row 1, column 'weight': the weight must be a number of 0 or more, got '-1'"),
        (ROWS.replace("2.5", "nan"), {}, "got 'nan'"),
        (ROWS.replace("2.5", "much"), {}, "got 'much'"),
        (ROWS.replace("2.5", ""), {}, "got ''"),
        (ROWS.replace("a?,b?,1", "a?,b?,maybe"), {}, "the label must be 0 or 1, got 'maybe'"),
        (ROWS, {"weight_column": "times"}, "there is no column 'times'"),
        (ROWS.replace("label", "verdict"), {}, "no label column was found"),
        ("question1,question2,label\na?,b?,?\n", {}, "no labelled pairs were read"),
    ],
)
def test_bad_rows_are_refused_by_place(tmp_path: Path, text: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(InputError) as found:
        load_judged(write(tmp_path / "judged.csv", text), **options)
    assert message in str(found.value)


def test_bad_rows_can_be_left_out(tmp_path: Path) -> None:
    report = ReadReport(skip_bad=True)
    pairs, _ = load_judged(write(tmp_path / "judged.csv", ROWS.replace("2.5", "-1")), report=report)
    assert pairs.left == ["g?"]
    assert (report.rows, report.rejected) == (4, 1)
