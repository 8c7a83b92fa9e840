"""Labels in the words that files use, pairs with both labels, and files that cannot be split."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dupq.data.grouping import contradictions
from dupq.data.labels import parse_label, parse_labels
from dupq.data.pairs import PairTable, load_pairs
from dupq.data.reading import Columns, ReadReport, read_pairs
from dupq.data.splits import split_file
from dupq.data.text import fingerprint
from dupq.data.writing import write_rows
from dupq.errors import InputError
from tests.cli.test_commands import run
from tests.questions import labelled_pairs

WORDS = [
    ("yes", "no"), ("YES", " No "), ("true", "false"), ("True", "False"), ("duplicate", "distinct"),
    ("duplicate", "not duplicate"), ("1", "0"), ("1.0", "0.0"), ("1.00", "0."),
]  # fmt: skip


@pytest.mark.parametrize(("one", "zero"), WORDS)
@pytest.mark.parametrize(("ending", "delimiter"), [("csv", ","), ("tsv", "\t"), ("csv", ";")])
def test_usual_words_are_read_and_noted(tmp_path: Path, one: str, zero: str, ending: str, delimiter: str) -> None:
    path = tmp_path / f"pairs.{ending}"
    rows = [
        ["question1", "question2", "label"],
        ["Is go hard?", "How hard is go?", one],
        ["Is go hard?", "Is it?", zero],
    ]
    path.write_text("\n".join(delimiter.join(row) for row in rows * 1), encoding="utf-8")
    report = ReadReport()
    assert [pair.label for pair in read_pairs(path, labelled=True, report=report)] == [1, 0]
    noted = [line for line in report.notes if line.startswith("labels of column 'label': ")]
    assert len(noted) == (0 if one[0] == "1" else 2)


@pytest.mark.parametrize(
    "value", [True, 1, 1.0, np.int64(1), np.bool_(True), "1", " yes ", "Duplicate", "non-duplicate"]
)
def test_values_of_any_type(value: object) -> None:
    assert parse_label(value, None, "row 1", "label") == (0 if value == "non-duplicate" else 1)


@pytest.mark.parametrize(
    "value", [2, -1, 0.5, "", None, float("nan"), "maybe", "0_1", "01", "1e0", "1 0", "10", [], "unsure"]
)
def test_what_is_no_label_names_its_place_and_the_option(value: object) -> None:
    with pytest.raises(InputError, match=r"row 7, column 'same': the label must be 0 or 1, got ") as caught:
        parse_label(value, None, "row 7", "same")
    assert "--labels" in str(caught.value.hint)


def test_a_mapping_is_all_that_is_read(tmp_path: Path) -> None:
    mapping = parse_labels(["Ja=1", "nein = 0", "DIFFERENT  question=0", "a=b=1"])
    assert mapping == {"ja": 1, "nein": 0, "different question": 0, "a=b": 1}
    assert parse_label(" JA", mapping, "row 1", "label") == 1
    assert parse_label("different question", mapping, "row 1", "label") == 0
    with pytest.raises(InputError, match=r"the label must be one of ja=1 nein=0 .*, got 'yes'"):
        parse_label("yes", mapping, "row 1", "label")
    # Labels that stand the other way round.
    turned = parse_labels(["0=1", "1=0"])
    rows = [{"question1": "a b", "question2": "c d", "label": 0}, {"question1": "e", "question2": "f", "label": "1"}]
    assert [pair.label for pair in read_pairs(rows, columns=Columns(labels=turned), labelled=True)] == [1, 0]
    assert parse_labels(None) is parse_labels([]) is None


@pytest.mark.parametrize(
    "values",
    [["yes"], ["yes=2", "no=0"], ["=1", "no=0"], ["yes=1"], ["yes=1", "YES=0"], ["yes=1", "yes=1"], ["yes=", "no=0"]],
)
def test_mappings_that_are_none(values: list[str]) -> None:
    with pytest.raises(InputError, match="--labels") as caught:
        parse_labels(values)
    assert "--labels yes=1 no=0" in str(caught.value.hint)


@given(st.text(max_size=12))
@settings(max_examples=200)
def test_any_text_is_a_label_or_an_error_of_ours(text: str) -> None:
    with suppress(InputError):
        assert parse_label(text, None, "row 1", "label") in (0, 1)


# ---- pairs with both labels ------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.sampled_from([-1, 0, 1])), max_size=30),
    st.randoms(use_true_random=False),
)
@settings(max_examples=200, deadline=None)
def test_contradictions_equal_a_slow_loop(rows: list[tuple[int, int, int]], draw: object) -> None:
    def written(number: int) -> str:
        return draw.choice([f"Question {number}?", f"question  {number}", f"QUESTION {number} !"])  # type: ignore[attr-defined]

    left, right = [written(a) for a, _, _ in rows], [written(b) for _, b, _ in rows]
    found = contradictions(left, right, np.array([label for *_, label in rows], dtype=np.int8))
    seen: dict[frozenset[int], set[int]] = {}
    for a, b, label in zip(left, right, (label for *_, label in rows), strict=True):
        if label >= 0:
            seen.setdefault(frozenset((fingerprint(a), fingerprint(b))), set()).add(label)
    both = {pair for pair, labels in seen.items() if labels == {0, 1}}
    assert (found.pairs, bool(found)) == (len(both), bool(both))
    inside = [
        index
        for index, (a, b, (*_, label)) in enumerate(zip(left, right, rows, strict=True))
        if label >= 0 and frozenset((fingerprint(a), fingerprint(b))) in both
    ]
    assert found.entries == len(inside)
    if found.first is not None:
        one, other = found.first
        assert one == inside[0]
        assert rows[one][2] != rows[other][2]
        assert frozenset((fingerprint(left[one]), fingerprint(right[one]))) == frozenset(
            (fingerprint(left[other]), fingerprint(right[other]))
        )


def written(path: Path, rows: list[tuple[str, str, object]]) -> Path:
    write_rows(
        path, ({"question1": a, "question2": b, "label": c} for a, b, c in rows), ["question1", "question2", "label"]
    )
    return path


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_split_says_which_rows_contradict_each_other(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, ending: str
) -> None:
    rows: list[tuple[str, str, object]] = [(pair.question1, pair.question2, pair.label) for pair in labelled_pairs()]
    a, b, label = rows[2]
    rows.insert(89, (b.upper(), a, 1 - int(str(label))))
    path = written(tmp_path / f"pairs.{ending}", rows)
    status, out, err = run(capsys, "data", "split", path, "-o", tmp_path / "s")
    assert status == 0, err
    said = f"1 pair has both labels (2 of {len(rows):,} rows; first: rows 3 and 90); all are kept"
    assert f"CAUTION: {said}" in out
    status, out, _ = run(capsys, "data", "split", path, "-o", tmp_path / "s", "--json")
    assert json.loads(out)["contradictory_pairs"] == 1
    assert said in json.loads(out)["notes"][0]
    table = load_pairs(path)
    assert table.take(np.array([2, 89])).contradictions.text(table.take(np.array([2, 89])).rows).count("3 and 90") == 1
    clean = split_file(written(tmp_path / f"clean.{ending}", rows[:89] + rows[90:]), tmp_path / "c")
    assert (clean["contradictory_pairs"], clean["notes"]) == (0, [])


def test_words_reach_every_command_that_reads_labels(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rows: list[tuple[str, str, object]] = [
        (pair.question1, pair.question2, "gleich" if pair.label else "anders") for pair in labelled_pairs()
    ]
    path = written(tmp_path / "pairs.csv", rows)
    status, _, err = run(capsys, "data", "split", path, "-o", tmp_path / "s")
    assert status == 2
    assert "--labels same=1 other=0" in err
    status, _, err = run(capsys, "data", "split", path, "-o", tmp_path / "s", "--labels", "gleich=1", "anders=0")
    assert status == 0, err
    assert json.loads((tmp_path / "s" / "split.json").read_text())["splits"]["train"]["base_rate"] == pytest.approx(0.6)
    status, _, err = run(capsys, "data", "split", path, "-o", tmp_path / "s", "--labels", "gleich=1")
    assert status == 2
    assert "both labels" in err


# ---- files that cannot be split --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [4, 50, 700])
@pytest.mark.parametrize("kind", ["chain", "star"])
def test_pairs_of_one_chain_cannot_be_split_and_it_says_why(tmp_path: Path, size: int, kind: str) -> None:
    names = [f"Question number {index}?" for index in range(size + 1)]
    ends = [(names[0] if kind == "star" else names[i], names[i + 1]) for i in range(size)]
    path = written(tmp_path / "chain.csv", [(a, b, i % 2) for i, (a, b) in enumerate(ends)])
    with pytest.raises(
        InputError, match=rf"{size:,} pairs in 1 question group, the largest .* 100% .* through a chain"
    ) as caught:
        split_file(path, tmp_path / "s")
    assert not (tmp_path / "s").exists()
    if kind == "star":
        assert f"by {size:,} pairs: 'Question number 0?'" in caught.value.message


def test_a_group_of_most_pairs_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rows: list[tuple[str, str, object]] = [(p.question1, p.question2, p.label) for p in labelled_pairs(60)]
    rows += [("What is the meaning of life?", f"Is it {index}?", index % 2) for index in range(1200)]
    status, out, err = run(capsys, "data", "split", written(tmp_path / "p.csv", rows), "-o", tmp_path / "s")
    assert status == 0, err
    assert "CAUTION: 1,800 pairs in 61 question groups, the largest with 67% of them" in out


def test_rows_of_pairs_are_kept_with_them() -> None:
    rows = [{"question1": f"a {i}", "question2": f"b {i}", "label": i % 2} for i in range(5)]
    rows[1]["question1"] = " "
    table = load_pairs(rows, report=ReadReport(skip_bad=True))
    assert table.rows is not None
    assert table.rows.tolist() == [1, 3, 4, 5]
    assert PairTable(table.left, table.right, table.labels).rows is None
