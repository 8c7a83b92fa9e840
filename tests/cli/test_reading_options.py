from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from dupq.cli.main import main
from dupq.pipeline import DuplicatePipeline
from tests.data.test_stackexchange import dump
from tests.fakes import WordEmbedder, WordScorer
from tests.questions import labelled_table

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def pipeline(monkeypatch: pytest.MonkeyPatch) -> DuplicatePipeline:
    """What every command opens, whatever model it is given."""
    opened = DuplicatePipeline(WordScorer(), WordEmbedder()).calibrate(labelled_table())
    for family in ("mine", "index", "score"):
        monkeypatch.setattr(f"dupq.cli.{family}.open_pipeline", lambda args: opened)
    monkeypatch.setattr(DuplicatePipeline, "from_pretrained", classmethod(lambda *_, **__: opened))
    return opened


def run(capsys: Capture, *arguments: object) -> tuple[int, str, str]:
    """The exit status, standard output and standard error of a command."""
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


QUESTIONS = [
    ("1", "How do I reset my password?", "I forgot it"),
    ("2", "How can I reset the password?", ""),
    ("3", "What is the capital of France?", "For a quiz"),
]


def write(path: Path, rows: list[tuple[str, ...]], delimiter: str = ",", encoding: str = "utf-8") -> Path:
    with path.open("w", encoding=encoding, newline="") as stream:
        csv.writer(stream, delimiter=delimiter).writerows([("id", "title", "body"), *rows])
    return path


def commands(source: Path, folder: Path) -> dict[str, list[object]]:
    """Each command that reads single questions."""
    return {
        "mine": ["mine", source, "-o", folder / "pairs.jsonl"],
        "add": ["index", "add", folder / "new.db", source],
    }


@pytest.mark.parametrize("command", ["mine", "add"])
@pytest.mark.parametrize("as_json", [False, True])
def test_what_was_read_is_said_beside_the_result(tmp_path: Path, capsys: Capture, command: str, as_json: bool) -> None:
    rows = [*QUESTIONS, ("", "Who?", ""), ("4", " ", "body"), ("1", "How do I reset my password?", "")]
    source = write(tmp_path / "q.csv", rows)
    arguments = [*commands(source, tmp_path)[command], "--skip-bad", *(["--json"] if as_json else [])]
    status, out, err = run(capsys, *arguments)
    assert status == 0
    if as_json:
        json.loads(out)
    assert f"{source}: ids from 'id', texts from 'title' (not 'body'" in err
    assert "read 6 rows: 3 used, 3 left out" in err
    assert f"{source}, row 4, column 'id': the id is missing" in err
    assert f"{source}, row 5, column 'title': the text is blank" in err
    assert "id '1': rows 1 and 6 hold the same text" in err


@pytest.mark.parametrize("command", ["mine", "add"])
def test_only_the_first_reasons_are_listed(tmp_path: Path, capsys: Capture, command: str) -> None:
    source = write(tmp_path / "q.csv", [*QUESTIONS, *((str(at), "", "") for at in range(10, 1210))])
    status, _, err = run(capsys, *commands(source, tmp_path)[command], "--skip-bad")
    assert status == 0
    assert "read 1,203 rows: 3 used, 1,200 left out" in err
    assert "row 23, column" in err
    assert "row 24, column" not in err
    assert "... and 1,180 more" in err


@pytest.mark.parametrize("command", ["mine", "add"])
@pytest.mark.parametrize("skip", [[], ["--skip-bad"]])
def test_a_file_without_questions_is_an_error(tmp_path: Path, capsys: Capture, command: str, skip: list[str]) -> None:
    source = write(tmp_path / "q.csv", [])
    status, _, err = run(capsys, *commands(source, tmp_path)[command], *skip)
    assert status != 0
    assert "q.csv" in err
    assert not (tmp_path / "pairs.jsonl").exists()


@pytest.mark.parametrize("command", ["mine", "add"])
def test_an_empty_body_beside_a_title_stops_nothing(tmp_path: Path, capsys: Capture, command: str) -> None:
    source = write(tmp_path / "q.csv", QUESTIONS)
    status, out, err = run(
        capsys, *commands(source, tmp_path)[command], "--text-column", "title", "--text-column", "body", "--json"
    )
    assert status == 0
    assert json.loads(out)["questions"] == 3
    assert "texts from 'title' + 'body'" in err


@pytest.mark.parametrize("command", ["mine", "add"])
def test_an_id_with_two_texts_stops_or_is_left_out(tmp_path: Path, capsys: Capture, command: str) -> None:
    source = write(tmp_path / "q.csv", [*QUESTIONS, ("3", "Who won the match?", "")])
    arguments = commands(source, tmp_path)[command]
    status, _, err = run(capsys, *arguments)
    assert status != 0
    assert "row 4: the id '3' has two texts (rows 3 and 4)" in err
    status, _, err = run(capsys, *arguments, "--skip-bad")
    assert status == 0
    assert "read 4 rows: 3 used, 1 left out" in err


def test_ids_of_a_csv_and_of_a_json_file_agree_with_id_type(tmp_path: Path, capsys: Capture) -> None:
    source = write(tmp_path / "q.csv", QUESTIONS)
    (tmp_path / "q.jsonl").write_text("".join(json.dumps({"id": int(a), "title": b}) + "\n" for a, b, _ in QUESTIONS))

    def add(index: str, file: Path, *options: str) -> Any:
        status, out, _ = run(capsys, "index", "add", tmp_path / index, file, *options, "--json")
        assert status == 0
        return json.loads(out)

    for index, options in (("int.db", ["--id-type", "int"]), ("text.db", ["--id-type", "text"])):
        assert add(index, source, *options)["added"] == 3
        assert add(index, tmp_path / "q.jsonl", *options)["unchanged"] == 3
    assert add("auto.db", source)["added"] == 3
    assert add("auto.db", tmp_path / "q.jsonl")["questions"] == 6


@pytest.mark.parametrize(("delimiter", "option"), [(";", ";"), ("|", "|"), ("\t", "tab"), ("\t", "\\t"), ("\t", "\t")])
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "utf-16"])
def test_delimiter_and_encoding_reach_the_reader(
    tmp_path: Path, capsys: Capture, delimiter: str, option: str, encoding: str
) -> None:
    rows = [("1", "Où est la gare ?", ""), ("2", "Où est la gare ?", ""), ("3", "Wie groß, wie alt?", "")]
    source = write(tmp_path / "q.csv", rows, delimiter, encoding)
    arguments = ["mine", source, "-o", tmp_path / "o.jsonl", "--delimiter", option, "--encoding", encoding, "--json"]
    status, out, err = run(capsys, *arguments)
    assert status == 0, err
    assert json.loads(out)["questions"] == 3
    row = json.loads((tmp_path / "o.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert row["question1"] == "Où est la gare ?"


@pytest.mark.parametrize(
    ("options", "printed"),
    [
        (["--delimiter", ""], "delimiter must be one character"),
        (["--delimiter", ";;"], "delimiter must be one character"),
        (["--delimiter", "\n"], "delimiter must be one character"),
        (["--encoding", "utf-99"], "encoding must be"),
        (["--encoding", "rot13"], "encoding must be"),
        (["--encoding", "\0"], "encoding must be"),
        (["--date-format", "dmy"], "date_format must be"),
        (["--text-column", "titel"], "no column 'titel'"),
    ],
)
@pytest.mark.parametrize("command", ["mine", "add"])
def test_wrong_reading_options_are_one_clear_error(
    tmp_path: Path, capsys: Capture, command: str, options: list[str], printed: str
) -> None:
    source = write(tmp_path / "q.csv", QUESTIONS)
    status, _, err = run(capsys, *commands(source, tmp_path)[command], *options)
    assert status != 0
    assert printed in err
    assert "Traceback" not in err


def test_html_is_not_scored_and_said(tmp_path: Path, capsys: Capture) -> None:
    rows = [("1", "<p>How do I reset my password?</p>", ""), ("2", "How do I reset my password?", "")]
    source = write(tmp_path / "q.csv", rows)
    _, out, err = run(capsys, "mine", source, "-o", tmp_path / "o.jsonl", "--json")
    assert json.loads(out)["copies"] == 1
    assert f"{source}: HTML was removed from 1 of 2 texts" in err
    _, out, err = run(capsys, "mine", source, "-o", tmp_path / "kept.jsonl", "--html", "keep", "--json")
    assert json.loads(out)["copies"] == 0
    assert "HTML" not in err


def test_flag_reads_its_file_by_the_same_options(tmp_path: Path, capsys: Capture) -> None:
    source = write(tmp_path / "q.csv", QUESTIONS)
    assert run(capsys, "index", "add", tmp_path / "my.db", source)[0] == 0
    new = write(tmp_path / "new.csv", [("7", "<p>What is the capital of France?</p>", ""), ("8", "", "")], ";")
    options = ["--delimiter", ";", "--id-type", "int", "--skip-bad"]
    status, _, err = run(capsys, "flag", tmp_path / "my.db", "--questions", new, "-o", tmp_path / "f.jsonl", *options)
    assert status == 0
    assert "read 2 rows: 1 used, 1 left out" in err
    assert "HTML was removed from 1 of 1 texts" in err
    best = json.loads((tmp_path / "f.jsonl").read_text().splitlines()[0])
    assert (best["id"], best["duplicate_id"], best["copy"]) == (7, "3", True)


def test_the_text_columns_of_a_dump_are_not_ignored(tmp_path: Path, capsys: Capture) -> None:
    dump(tmp_path, {1: "Why is the sky blue?", 2: "Who won the match?"}, [])
    arguments = ["mine", tmp_path, "-o", tmp_path / "o.jsonl", "--json"]
    _, out, _ = run(capsys, *arguments, "--text-column", "Body")
    assert json.loads(out)["copies"] == 1
    _, out, err = run(capsys, *arguments, "--text-column", "Title", "--text-column", "Body")
    assert json.loads(out)["copies"] == 0
    assert "texts from 'Title' + 'Body'" in err
    status, _, err = run(capsys, *arguments, "--text-column", "text")
    assert status != 0
    assert "Title, Body, Tags" in err


def test_files_of_pairs_have_the_options_too(tmp_path: Path, capsys: Capture) -> None:
    rows = ["question1;question2", "Où est la gare ?;Où est la gare ?", "Who?;", "Qui?;Où?"]
    (tmp_path / "p.csv").write_bytes("\r\n".join(rows).encode("cp1252"))
    arguments = [
        "score",
        "--pairs",
        tmp_path / "p.csv",
        "-o",
        tmp_path / "s.jsonl",
        "--delimiter",
        ";",
        "--encoding",
        "cp1252",
    ]
    status, out, err = run(capsys, *arguments, "--skip-bad", "--json")
    assert status == 0, err
    assert json.loads(out)["pairs"] == 2
    assert "read 3 rows: 2 used, 1 left out" in err


@pytest.mark.parametrize(("mode", "equal"), [("auto", True), ("strip", True), ("keep", False)])
def test_html_in_a_file_of_pairs_is_not_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mode: str, equal: bool
) -> None:
    pairs = tmp_path / "pairs.csv"
    pairs.write_text(
        "question1,question2\n<p>How do I learn chess &amp; go?</p>,How do I learn go?\n"
        "How do I learn chess & go?,How do I learn go?\n",
        encoding="utf-8",
    )
    out = tmp_path / "out.jsonl"
    assert main(["score", "--pairs", str(pairs), "-o", str(out), "--html", mode]) == 0
    tagged, plain = (json.loads(line) for line in out.read_text(encoding="utf-8").splitlines())
    assert (tagged["score"] == plain["score"]) == equal
    assert tagged["question1"] == "<p>How do I learn chess &amp; go?</p>"
    assert ("HTML was removed from 1 of 4 texts" in capsys.readouterr().err) == equal
