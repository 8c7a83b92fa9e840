from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dupq.data.splits
from dupq.data.grouping import DEFAULT_FRACTIONS, leak_report
from dupq.data.pairs import PairTable, load_pairs
from dupq.data.reading import FileOptions, ReadReport
from dupq.data.splits import SplitSettings, split_file
from dupq.data.writing import write_rows
from dupq.errors import InputError, OutputError
from dupq.types import QuestionPair
from tests.questions import labelled_pairs, labelled_table

COLUMNS = ["question1", "question2", "label", "natural"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """960 pairs in 96 groups; every fifth duplicate is marked as not natural."""
    rows = [
        {"question1": pair.question1, "question2": pair.question2, "label": pair.label, "natural": int(index % 5 != 0)}
        for index, pair in enumerate(labelled_pairs())
    ]
    write_rows(tmp_path / "all.csv", rows, COLUMNS)
    return tmp_path / "all.csv"


def parts(folder: Path) -> dict[str, PairTable]:
    return {
        name: load_pairs(folder / f"{name}.jsonl") for name in json.loads((folder / "split.json").read_text())["splits"]
    }


# ---- tables -------------------------------------------------------------------------------------------------------


def test_a_table_knows_its_groups_and_base_rate() -> None:
    table = labelled_table()
    assert len(table) == 960
    assert table.base_rate == pytest.approx(0.6)
    assert len(np.unique(table.groups)) == 96
    assert np.unique(table.groups, return_counts=True)[1].tolist() == [10] * 96


def test_the_base_rate_is_of_the_labelled_pairs_alone() -> None:
    labels = [1, None, 0, None, None, 0]
    table = PairTable.from_pairs(QuestionPair(f"a{n}", f"b{n}", label) for n, label in enumerate(labels))
    assert table.labels.tolist() == [1, -1, 0, -1, -1, 0]
    assert table.base_rate == pytest.approx(1 / 3)
    assert np.isnan(table.take(table.labels == -1).base_rate)
    assert np.isnan(table.take(np.array([], dtype=int)).base_rate)


def test_rows_are_taken_by_mask_and_by_position() -> None:
    table = labelled_table(2)
    by_position = table.take(np.array([3, 0]))
    assert (by_position.left, by_position.right) == (
        [table.left[3], table.left[0]],
        [table.right[3], table.right[0]],
    )
    assert table.take(table.labels == 0).labels.tolist() == [0] * 8


def test_the_fingerprint_is_of_the_pairs_as_a_set() -> None:
    table = labelled_table(3)
    mixed = table.take(np.random.default_rng(0).permutation(len(table)))
    swapped = PairTable(mixed.right, mixed.left, mixed.labels)
    assert swapped.fingerprint == table.fingerprint
    others = [
        table.take(np.arange(len(table)) > 0),
        table.take(np.r_[0, np.arange(len(table))]),
        PairTable(table.left, table.right, 1 - table.labels),
        PairTable([table.left[0] + " ", *table.left[1:]], table.right, table.labels),
    ]
    assert len({table.fingerprint, *(other.fingerprint for other in others)}) == 5


# ---- splitting a file ---------------------------------------------------------------------------------------------


def test_splits_share_no_question_group_and_lose_no_pair(source: Path, tmp_path: Path) -> None:
    report = split_file(source, tmp_path / "splits")
    tables = parts(tmp_path / "splits")
    assert list(tables) == list(DEFAULT_FRACTIONS)
    assert sum(len(table) for table in tables.values()) == report["pairs"] == 960
    for one, other in itertools.combinations(tables.values(), 2):
        assert leak_report((one.left, one.right), (other.left, other.right)).clean
    for name, table in tables.items():
        told = report["splits"][name]
        assert told["pairs"] == len(table)
        assert told["groups"] == len(np.unique(table.groups))
        assert told["base_rate"] == pytest.approx(table.base_rate)
        assert told["fingerprint"] == table.fingerprint
    assert report == json.loads((tmp_path / "splits" / "split.json").read_text())


def test_a_split_can_be_made_again_and_another_seed_draws_another(source: Path, tmp_path: Path) -> None:
    reports = [split_file(source, tmp_path / str(n), SplitSettings(seed=seed)) for n, seed in enumerate((0, 0, 1))]
    assert reports[0] == reports[1]
    assert (tmp_path / "0" / "test.jsonl").read_bytes() == (tmp_path / "1" / "test.jsonl").read_bytes()
    assert reports[0]["splits"]["test"]["fingerprint"] != reports[2]["splits"]["test"]["fingerprint"]


def test_rows_that_may_only_train_stay_out_of_the_other_splits(source: Path, tmp_path: Path) -> None:
    plain = split_file(source, tmp_path / "plain")
    report = split_file(source, tmp_path / "held", SplitSettings(held_out_where={"natural": "1"}))
    tables = parts(tmp_path / "held")
    assert len(tables["train"]) == plain["splits"]["train"]["pairs"]
    assert report["left_out"] > 0
    assert sum(len(table) for table in tables.values()) == 960 - report["left_out"]
    for name, table in tables.items():
        natural = load_pairs(tmp_path / "held" / f"{name}.jsonl", where={"natural": "1"})
        assert len(natural) == report["splits"][name]["natural_pairs"]
        assert (len(natural) == len(table)) == (name != "train")
        assert report["splits"][name]["base_rate"] == pytest.approx(natural.base_rate)
    with pytest.raises(InputError, match="no column 'Natural'"):
        split_file(source, tmp_path / "held", SplitSettings(held_out_where={"Natural": "1"}))


def test_standard_input_and_datasets_split_too(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = SplitSettings(held_out_where={"natural": "1"})
    expected = split_file(source, tmp_path / "a", settings)

    class Standard:
        buffer = source.open("rb")

    monkeypatch.setattr("sys.stdin", Standard)
    assert split_file("-", tmp_path / "b", settings, options=FileOptions("csv"))["splits"] == expected["splits"]
    Standard.buffer.close()
    rows = [
        {"question1": pair.question1, "question2": pair.question2, "label": pair.label} for pair in labelled_pairs()
    ]
    assert split_file(rows, tmp_path / "c")["splits"] == split_file(source, tmp_path / "d")["splits"]


def test_bad_rows_are_counted(source: Path, tmp_path: Path) -> None:
    with source.open("a") as stream:
        stream.write('"  ","b",1,1\n"a","b",7,1\n')
    with pytest.raises(InputError, match="row 961"):
        split_file(source, tmp_path / "splits")
    assert not (tmp_path / "splits").exists()
    report = ReadReport(True)
    assert split_file(source, tmp_path / "splits", report=report)["skipped_bad_rows"] == 2
    assert report.rejected == 2


def test_an_earlier_split_leaves_no_file_behind(source: Path, tmp_path: Path) -> None:
    split_file(source, tmp_path / "splits")
    (tmp_path / "splits" / "mine.txt").write_text("kept")
    split_file(source, tmp_path / "splits", SplitSettings({"train": 0.5, "test": 0.5}))
    assert sorted(path.name for path in (tmp_path / "splits").iterdir()) == [
        "mine.txt", "split.json", "test.jsonl", "train.jsonl",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["train", "extra"])
def test_a_split_neither_replaces_nor_removes_its_source(source: Path, tmp_path: Path, name: str) -> None:
    folder, halves = tmp_path / "data", SplitSettings({"train": 0.5, "test": 0.5})
    split_file(source, folder, SplitSettings({name: 0.5, "other": 0.5}, seed=1))
    (tmp_path / "link.jsonl").symlink_to(folder / f"{name}.jsonl")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for mine in (folder / f"{name}.jsonl", tmp_path / "link.jsonl"):
        with pytest.raises(InputError, match=f"got {name}.jsonl in"):
            split_file(mine, folder, halves)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    # Without an earlier split, only a name that is written is refused.
    (folder / "split.json").unlink()
    if name == "train":
        with pytest.raises(InputError, match=r"got train\.jsonl in"):
            split_file(folder / "train.jsonl", folder, halves)
    else:
        split_file(folder / "extra.jsonl", folder, halves)
    assert (folder / f"{name}.jsonl").read_bytes() == before[f"{name}.jsonl"]


def test_a_damaged_earlier_split_is_told(source: Path, tmp_path: Path) -> None:
    (tmp_path / "split.json").write_text("{")
    with pytest.raises(OutputError, match="the earlier split there cannot be replaced"):
        split_file(source, tmp_path)


def test_an_interrupted_split_leaves_no_split_json(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    split_file(source, tmp_path / "splits")
    calls = itertools.count()
    whole = dupq.data.splits.write_rows

    def interrupted(*args: Any) -> int:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return whole(*args)

    monkeypatch.setattr(dupq.data.splits, "write_rows", interrupted)
    with pytest.raises(KeyboardInterrupt):
        split_file(source, tmp_path / "splits", SplitSettings(seed=1))
    assert sorted(path.name for path in (tmp_path / "splits").iterdir()) == ["train.jsonl", "validation.jsonl"]


@pytest.mark.parametrize(
    ("fractions", "problem"),
    [
        ({"train": 0.5, "test": 0.4}, "must sum to 1"),
        ({"train": 1.0, "test": 0.0}, "the fraction of .test. must be above 0"),
        ({"../train": 0.5, "test": 0.5}, "cannot be the name of a split"),
        ({"": 0.5, "test": 0.5}, "cannot be the name of a split"),
    ],
)
def test_splits_that_cannot_be_made_write_nothing(
    source: Path, tmp_path: Path, fractions: dict[str, float], problem: str
) -> None:
    with pytest.raises(InputError, match=problem):
        split_file(source, tmp_path / "splits", SplitSettings(fractions))
    assert not (tmp_path / "splits").exists()


def test_a_source_without_pairs(tmp_path: Path) -> None:
    (tmp_path / "pairs.tsv").write_text("q1\tq2\tlabel\n")
    with pytest.raises(InputError, match=r"pairs.tsv: there are no rows"):
        split_file(tmp_path / "pairs.tsv", tmp_path / "splits")
