"""`dupq index` and `dupq flag`: typed ids, outputs, warnings, and options that are checked before the work."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from dupq.cli.main import main
from dupq.data.writing import write_rows
from dupq.index.question_index import QuestionIndex
from dupq.pipeline import DuplicatePipeline
from dupq.types import TextWarning
from tests.fakes import WordEmbedder, WordScorer
from tests.questions import INTENTS, labelled_table

TEXTS = [phrase.format(thing="chess") for asked in INTENTS for phrase in asked]
STRANGE = TextWarning("unknown_language", "the model did not learn this script")


class Warned(DuplicatePipeline):
    """Warns of texts that are not of ASCII."""

    def text_warnings(self, texts: Any) -> Any:
        return [() if text.isascii() else (STRANGE,) for text in texts]


@pytest.fixture(scope="module")
def judge() -> DuplicatePipeline:
    plain = DuplicatePipeline(WordScorer(), WordEmbedder()).calibrate(labelled_table())
    return Warned(WordScorer(), WordEmbedder(), calibrator=plain.calibrator, rule=plain.rule)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, judge: DuplicatePipeline) -> list[str]:
    """How often a command has opened the model."""
    times: list[str] = []

    def open_pipeline(args: Any) -> DuplicatePipeline:
        times.append(args.command)
        return judge

    monkeypatch.setattr("dupq.cli.index.open_pipeline", open_pipeline)
    return times


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[str]) -> Path:
    """A folder with an index forum.db and a file q.csv, and the working directory."""
    monkeypatch.chdir(tmp_path)
    write_rows("q.csv", [{"id": f"q{at}", "text": text} for at, text in enumerate(TEXTS)], ["id", "text"])
    assert main(["index", "add", "forum.db", "q.csv"]) == 0
    opened.clear()
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    capsys.readouterr()
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def read(path: str) -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


# ---- ids ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def both(folder: Path, judge: DuplicatePipeline) -> Path:
    with QuestionIndex("both.db", judge) as index:
        index.add([7, "7", 8, "9", "007", -5], TEXTS[:6])
    return folder


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        (["8"], {7, "7", "9", "007", -5}),
        (["9"], {7, "7", 8, "007", -5}),
        (["007"], {7, "7", 8, "9", -5}),
        (["7", "--id-type", "int"], {"7", 8, "9", "007", -5}),
        (["7", "--id-type", "text"], {7, 8, "9", "007", -5}),
        (["8", "--id-type", "text"], {7, "7", 8, "9", "007", -5}),
        (["-5", "8"], {7, "7", "9", "007"}),
        (["70", "7x", "99999999999999999999999", "--5"], {7, "7", 8, "9", "007", -5}),
    ],
)
def test_an_id_is_removed_as_the_type_it_has(
    both: Path, judge: DuplicatePipeline, arguments: list[str], left: set[int | str]
) -> None:
    names = [argument for argument in arguments if argument.startswith("--")]
    command = ["index", "remove", "both.db", *arguments]
    if "--5" in names:
        command = ["index", "remove", "both.db", "--", *arguments]
    assert main(command) == 0
    with QuestionIndex("both.db", judge) as index:
        assert {flag.id for flag in index.flag("Who?", k=50).flags} == left


@pytest.mark.parametrize("arguments", [["7"], ["8", "7"], ["9", "7", "8"]])
def test_an_id_that_is_there_as_both_is_asked_about(
    both: Path, judge: DuplicatePipeline, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert main(["index", "remove", "both.db", *arguments]) == 2
    printed = capsys.readouterr().err
    assert "two ids" in printed
    assert "--id-type int" in printed
    with QuestionIndex("both.db", judge) as index:
        assert len(index) == 6


def test_a_word_is_no_number(both: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["index", "remove", "both.db", "x", "--id-type", "int"]) == 2
    assert "must be a whole number" in capsys.readouterr().err


def test_ids_that_are_not_there_are_listed(both: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(capsys, "index", "remove", "both.db", "8", "80", "nobody")
    assert found == {"removed": 1, "missing": ["80", "nobody"], "questions": 5}


# ---- outputs ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["csv", "jsonl", "tsv", "parquet"])
def test_one_question_is_written_too(folder: Path, capsys: pytest.CaptureFixture[str], ending: str) -> None:
    found = run(capsys, "flag", "forum.db", TEXTS[4], "-k", 3, "-o", f"out.{ending}")
    assert len(found["flags"]) == 3
    if ending == "parquet":
        rows = pyarrow.parquet.read_table("out.parquet").to_pylist()
    elif ending == "jsonl":
        rows = [json.loads(line) for line in Path("out.jsonl").read_text(encoding="utf-8").splitlines()]
    else:
        with Path(f"out.{ending}").open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream, delimiter="\t" if ending == "tsv" else ","))
    assert [row["duplicate_id"] for row in rows] == [flag["duplicate_id"] for flag in found["flags"]]
    assert {row["question"] for row in rows} == {TEXTS[4]}


def test_one_question_goes_to_standard_output_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["flag", "forum.db", TEXTS[4], "-k", "2", "-o", "-"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["duplicate_id"] for row in rows][:1] == ["q4"]


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["--questions", "q.csv", "-o", "q.csv"], "another file than the input"),
        (["--questions", "q.csv", "-o", "./q.csv"], "another file than the input"),
        (["--questions", "q.csv", "-o", "link.csv"], "another file than the input"),
        (["Why?", "-o", "index.jsonl"], "another file than the input"),
        (["Why?", "-o", "out.xls"], "cannot be written"),
        (["Why?", "-o", "nothing/../q.csv/out.csv"], "could not be written"),
        (["--questions", "nobody.csv", "-o", "out.csv"], "nobody.csv"),
        (["Why?", "-k", "0"], "k must be"),
        (["Why?", "--threshold", "2"], "(0, 1]"),
        (["Why?", "--threshold", "0"], "(0, 1]"),
        (["Why?", "--base-rate", "1"], "base_rate must be"),
        (["Why?", "--base-rate", "nan"], "base_rate must be"),
        (["Why?", "--policy", "best"], "best"),
        (["Why?", "--miss-rate", "1.5"], "miss rate"),
        (["Why?", "--wait", "-1"], "wait must be"),
        ([""], "blank"),
        (["Why?", "--questions", "q.csv"], "one question, or --questions"),
    ],
)
def test_what_is_wrong_is_found_before_the_model_is_opened(
    folder: Path, opened: list[str], capsys: pytest.CaptureFixture[str], arguments: list[str], printed: str
) -> None:
    (folder / "link.csv").symlink_to("q.csv")
    (folder / "index.jsonl").symlink_to("forum.db")
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".csv", ".db")}
    capsys.readouterr()
    assert main(["flag", "forum.db", *arguments]) == 2
    captured = capsys.readouterr()
    assert printed in captured.err
    assert captured.out == ""
    assert opened == []
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".csv", ".db")} == before


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["q.csv", "q.csv"], "not an index"),
        (["forum.db", "nobody.csv"], "nobody.csv"),
        (["forum.db", "q.csv", "--wait", "-1"], "wait must be"),
        (["forum.db", "q.csv", "--base-rate", "0"], "base_rate must be"),
        (["forum.db", "q.csv", "--date-format", "%Q%"], "date_format"),
        (["forum.db", "dated.csv"], "1/5/2022"),
    ],
)
def test_add_checks_before_the_model_is_opened_too(
    folder: Path, opened: list[str], capsys: pytest.CaptureFixture[str], arguments: list[str], printed: str
) -> None:
    write_rows("dated.csv", [{"id": "d1", "text": "Who?", "created": "1/5/2022"}], ["id", "text", "created"])
    assert main(["index", "add", *arguments]) == 2
    assert printed in capsys.readouterr().err
    assert opened == []


def test_dates_of_a_file_are_read_by_their_format(
    folder: Path, judge: DuplicatePipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"id": f"d{at}", "text": f"Who is {at}?", "created": when} for at, when in enumerate(["1/5/2022", "soon"])]
    write_rows("dated.csv", rows, ["id", "text", "created"])
    found = run(capsys, "index", "add", "dated.db", "dated.csv", "--date-format", "%d/%m/%Y", "--skip-bad")
    assert found["added"] == 2
    with QuestionIndex("dated.db", judge) as index, index._store.reading() as view:
        assert [row.created for row, _ in view.rows()] == ["2022-05-01T00:00:00+00:00", None]
    assert main(["index", "add", "dated.db", "dated.csv", "--date-format", "%d/%m/%Y", "--skip-bad"]) == 0
    assert "1 dates cannot be read" in capsys.readouterr().err


# ---- warnings and bad rows ----------------------------------------------------------------------------------------


def test_warnings_are_in_every_output(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = "как выучить шахматы"
    found = run(capsys, "flag", "forum.db", asked, "-k", 2, "-o", "one.csv")
    assert found["warnings"] == [{"kind": "unknown_language", "message": STRANGE.message}]
    assert all(row["warnings"] == f"unknown_language: {STRANGE.message}" for row in read("one.csv"))
    assert main(["flag", "forum.db", asked, "-k", "2"]) == 0
    assert f"warning: {STRANGE.message}" in capsys.readouterr().out
    write_rows("new.csv", [{"id": 1, "text": asked}, {"id": 2, "text": TEXTS[3]}], ["id", "text"])
    summary = run(capsys, "flag", "forum.db", "--questions", "new.csv", "-o", "many.csv", "-k", 2)
    assert summary["warned"] == 1
    rows = read("many.csv")
    assert {row["id"] for row in rows if row["warnings"]} == {"1"}
    assert "duplicate" not in {row["decision"] for row in rows if row["id"] == "1"}


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_question_that_nothing_is_near_keeps_its_row_and_its_warning(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    judge: DuplicatePipeline,
    capsys: pytest.CaptureFixture[str],
    ending: str,
) -> None:
    class Latin(WordEmbedder):
        def embed(self, texts: Any, progress: Any = None) -> Any:
            vectors = super().embed(texts, progress)
            vectors[[not text.isascii() for text in texts]] = 0
            return vectors

    monkeypatch.setattr("dupq.cli.index.open_pipeline", lambda args: replace(judge, bi_encoder=Latin()))
    write_rows("new.jsonl", [{"id": 1, "text": "你好吗"}, {"id": 2, "text": TEXTS[3]}], ["id", "text"])
    summary = run(capsys, "flag", "forum.db", "--questions", "new.jsonl", "-o", f"out.{ending}", "-k", 2)
    assert (summary["questions"], summary["flags"], summary["warned"]) == (2, 2, 1)
    if ending == "csv":
        rows: list[dict[str, Any]] = list(read("out.csv"))
        assert (rows[0]["id"], rows[0]["duplicate_id"], rows[0]["decision"]) == ("1", "", "")
    else:
        rows = pyarrow.parquet.read_table("out.parquet").to_pylist()
        assert (rows[0]["id"], rows[0]["duplicate_id"], rows[0]["cosine"]) == (1, None, None)
    assert "no word" in rows[0]["warnings"]
    assert len(rows) == 3


def test_bad_texts_are_left_out_and_listed_and_the_others_go_on(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("new.jsonl").write_text(
        '{"id": 1, "text": "Who invented chess?"}\n{"id": 2, "text": "  "}\n{"id": 3, "text": null}\n'
        '{"id": 4, "text": "Is chess hard?"}\n',
        encoding="utf-8",
    )
    capsys.readouterr()
    assert main(["flag", "forum.db", "--questions", "new.jsonl", "-o", "out.csv"]) == 2
    assert "row 2" in capsys.readouterr().err
    assert main(["flag", "forum.db", "--questions", "new.jsonl", "-o", "out.csv", "--skip-bad", "--json"]) == 0
    captured = capsys.readouterr()
    assert "2 left out" in captured.err
    assert "row 2" in captured.err
    assert "row 3" in captured.err
    summary = json.loads(captured.out)
    assert (summary["questions"], summary["rejected"]) == (2, 2)
    assert {row["id"] for row in read("out.csv")} == {"1", "4"}


@pytest.mark.parametrize("where", ["index", "questions"])
def test_ids_of_two_types_do_not_go_to_parquet(
    folder: Path, judge: DuplicatePipeline, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    with QuestionIndex("mixed.db", judge) as index:
        index.add([7, "7"], TEXTS[:2])
    Path("mixed.jsonl").write_text('{"id": 1, "text": "Why?"}\n{"id": "b", "text": "How?"}\n', encoding="utf-8")
    names = ("mixed.db", "q.csv") if where == "index" else ("forum.db", "mixed.jsonl")
    assert main(["flag", names[0], "--questions", names[1], "-o", "out.parquet"]) == 2
    assert "numbers and texts" in capsys.readouterr().err
    assert not Path("out.parquet").exists()
    assert main(["flag", names[0], "--questions", names[1], "-o", "out.jsonl"]) == 0


def test_a_question_is_written_as_its_file_has_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = f"<p>{TEXTS[4]}</p>"
    write_rows("new.jsonl", [{"id": 1, "text": asked}], ["id", "text"])
    run(capsys, "flag", "forum.db", "--questions", "new.jsonl", "-o", "out.csv", "--html", "strip", "-k", 1)
    (row,) = read("out.csv")
    assert (row["question"], row["duplicate_id"], row["copy"]) == (asked, "q4", "True")
