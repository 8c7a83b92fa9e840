"""`dupq score` and `dupq explain` show what the networks cannot read, in text, JSON and files."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from dupq.cli.main import main

PAIR = ("你好吗?", "你怎么样?")
LONG = "Who invented chess? " * 200


def test_one_pair(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", *PAIR]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("review ")
    assert "note: question 1: it is written in the Han script" in err
    assert "note: question 2: " in err
    assert main(["score", *PAIR, "--json"]) == 0
    out, err = capsys.readouterr()
    content = json.loads(out)
    assert [(one["side"], one["kind"]) for one in content["warnings"]] == [
        (1, "unknown_language"),
        (2, "unknown_language"),
    ]
    assert content["decision"] == "review"
    assert main(["score", *PAIR, "--json", "--allow-unknown-language"]) == 0
    assert json.loads(capsys.readouterr().out)["decision"] == "duplicate"


def test_a_plain_pair_has_no_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", "Who invented chess?", "Who made chess?", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == []


def test_an_explanation(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "Who invented chess?", LONG, "--json"]) == 0
    assert [(one["side"], one["kind"]) for one in json.loads(capsys.readouterr().out)["result"]["warnings"]] == [
        (2, "truncated")
    ]
    assert main(["explain", *PAIR]) == 0
    assert "note: question 2: " in capsys.readouterr().err


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_a_file(tmp_path: Path, ending: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [("Who invented chess?", "Who made chess?"), PAIR, (LONG, "Who invented chess?"), ("😀", LONG)]
    with (tmp_path / "pairs.jsonl").open("w", encoding="utf-8") as file:
        for left, right in rows:
            file.write(json.dumps({"question1": left, "question2": right}) + "\n")
    output = tmp_path / f"scored.{ending}"
    assert main(["score", "--pairs", str(tmp_path / "pairs.jsonl"), "-o", str(output)]) == 0
    err = capsys.readouterr().err
    assert "2 of 8 texts: the networks read only a part" in err
    assert "3 of 8 texts: in a language the model was not trained on" in err
    assert "are truncated for the networks" not in err
    if ending == "parquet":
        found = pq.read_table(output).column("warnings").to_pylist()
    elif ending == "jsonl":
        found = [json.loads(line)["warnings"] for line in output.read_text(encoding="utf-8").splitlines()]
    else:
        with output.open(encoding="utf-8", newline="") as file:
            found = [row["warnings"] for row in csv.DictReader(file, delimiter="," if ending == "csv" else "\t")]
    assert found == ["", "unknown_language", "truncated", "unknown_language; truncated"]


@pytest.mark.parametrize("name", ["pairs.jsonl", "link.jsonl", "./pairs.jsonl"])
def test_the_input_is_not_overwritten(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "pairs.jsonl"
    source.write_text(json.dumps({"question1": "a b", "question2": "a c"}) + "\n", encoding="utf-8")
    (tmp_path / "link.jsonl").symlink_to(source)
    before = source.read_bytes()
    assert main(["score", "--pairs", str(source), "-o", str(tmp_path / name)]) == 2
    assert "must be another file than the input" in capsys.readouterr().err
    assert source.read_bytes() == before


def test_an_output_that_cannot_be_written_is_found_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, folder = tmp_path / "pairs.jsonl", tmp_path / "out.csv"
    source.write_text(json.dumps({"question1": "a b", "question2": "a c"}) + "\n", encoding="utf-8")
    folder.mkdir()
    assert main(["score", "--pairs", str(source), "-o", str(folder), "--model", "nothing"]) != 0
    assert "must be a file, got a folder" in capsys.readouterr().err
