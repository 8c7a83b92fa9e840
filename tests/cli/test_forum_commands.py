from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from dupq.cli.main import main
from dupq.data.writing import write_rows
from dupq.pipeline import DuplicatePipeline
from tests.data.test_stackexchange import dump, forum
from tests.fakes import WordEmbedder, WordScorer
from tests.questions import INTENTS, THINGS, labelled_table

TEXTS = [phrase.format(thing=thing) for thing in THINGS[:5] for asked in INTENTS for phrase in asked]


@pytest.fixture(autouse=True)
def pipeline(monkeypatch: pytest.MonkeyPatch) -> DuplicatePipeline:
    """What every command opens, whatever model it is given."""
    opened = DuplicatePipeline(WordScorer(), WordEmbedder()).calibrate(labelled_table())
    for family in ("mine", "index"):
        monkeypatch.setattr(f"dupq.cli.{family}.open_pipeline", lambda args: opened)
    monkeypatch.setattr(DuplicatePipeline, "from_pretrained", classmethod(lambda *_, **__: opened))
    return opened


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    rows = [{"id": f"q{at}", "text": text} for at, text in enumerate([*TEXTS, TEXTS[0].upper()])]
    write_rows(tmp_path / "questions.csv", rows, ["id", "text"])
    return tmp_path / "questions.csv"


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    assert main([str(argument) for argument in [*arguments, "--json"]]) == 0
    return json.loads(capsys.readouterr().out)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_mine_writes_pairs_and_groups(questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, groups = tmp_path / "pairs.csv", tmp_path / "groups.csv"
    summary = run(capsys, "mine", questions, "-o", out, "--groups", groups, "--min-cosine", 0.5)
    rows = read(out)
    assert summary["pairs_written"] == len(rows) > 1
    assert (rows[0]["kind"], {rows[0]["id1"], rows[0]["id2"]}) == ("copy", {"q0", "q90"})
    assert {row["decision"] for row in rows} <= {"duplicate", "review"}
    members = read(groups)
    assert len({row["group"] for row in members}) == summary["groups"]
    assert all(row["question"] == [*TEXTS, TEXTS[0].upper()][int(row["id"][1:])] for row in members)
    for number in {row["group"] for row in members}:
        assert sum(row["is_representative"] == "True" for row in members if row["group"] == number) == 1
    assert not Path(f"{out}.work").exists()


def test_mine_tells_a_person_what_it_found(questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mine", str(questions), "-o", str(tmp_path / "pairs.jsonl"), "--min-cosine", "0.5"]) == 0
    plain = capsys.readouterr().out
    lines = plain.splitlines()
    assert lines[0].startswith("91 questions -> ")
    assert lines[1].startswith("  pairs   1 copies, ")
    assert lines[2].startswith("  groups  ")
    assert lines[-1].endswith("; no guarantee (--verbose: details)")
    arguments = ["mine", str(questions), "-o", str(tmp_path / "pairs.jsonl"), "--min-cosine", "0.5", "--verbose"]
    assert main(arguments) == 0
    verbose = capsys.readouterr().out
    for part in ("search: every pair of 90 questions", "threshold:", "share of duplicates among candidates"):
        assert part in verbose
        assert part not in plain


def test_mine_options_reach_the_mining(questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def mine(*options: object) -> Any:
        return run(capsys, "mine", questions, "-o", tmp_path / "pairs.jsonl", "--min-cosine", 0.5, *options)

    plain = mine()
    assert mine("--base-rate", 0.05)["base_rate"] < plain["base_rate"]
    assert mine("--max-judged", 120)["judged"] == 120 < plain["judged"] == plain["candidates"]
    assert mine("--threshold", 0.7)["threshold"] == 0.7
    assert mine("--all-pairs")["pairs_written"] == plain["judged"] + 1
    assert mine("--max-pairs", 10)["judged"] == 10
    assert not mine("--approximate-above", 10)["exact"]
    assert mine("--linkage", "connected")["largest_group"] >= plain["largest_group"]


def test_mine_against_an_older_collection(questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(tmp_path / "old.jsonl", [{"id": at, "text": text} for at, text in enumerate(TEXTS[:30])], ["id", "text"])
    out = tmp_path / "pairs.csv"
    run(capsys, "mine", questions, "--against", tmp_path / "old.jsonl", "-o", out, "--min-cosine", 0.5)
    rows = read(out)
    assert all(row["id1"].startswith("q") and row["id2"].isdigit() for row in rows)
    copies = {(row["id1"], row["id2"]) for row in rows if row["kind"] == "copy"}
    assert copies == {*((f"q{at}", str(at)) for at in range(30)), ("q90", "0")}
    run(capsys, "mine", questions, "--against", questions, "-o", out, "--min-cosine", 0.5)
    assert all(row["id1"].startswith("new:q") and row["id2"].startswith("old:q") for row in read(out))


def test_an_interrupted_mining_goes_on(
    questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    out = tmp_path / "pairs.jsonl"
    with monkeypatch.context() as patch:
        patch.setattr(WordScorer, "score", interrupted)
        assert main(["mine", str(questions), "-o", str(out), "--min-cosine", "0.5"]) == 130
    assert Path(f"{out}.work").is_dir()
    assert not out.exists()
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(WordEmbedder, "embed", interrupted)
        assert run(capsys, "mine", questions, "-o", out, "--min-cosine", 0.5)["pairs_written"] > 1
    assert not Path(f"{out}.work").exists()


def test_an_index_from_the_first_question_to_the_last(
    questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    db = tmp_path / "forum.db"
    added = run(capsys, "index", "add", db, questions)
    assert added == {"added": 91, "replaced": 0, "unchanged": 0, "repeated": 0, "questions": 91}
    assert run(capsys, "index", "add", db, questions)["unchanged"] == 91
    found = run(capsys, "flag", db, TEXTS[4], "-k", 3)
    assert found["flags"][0]["duplicate_id"] == "q4"
    assert found["flags"][0]["copy"]
    assert len(found["flags"]) == 3
    assert found["stored"] == 91
    assert run(capsys, "flag", db, TEXTS[4], "--threshold", 0.99)["threshold"] == 0.99
    removed = run(capsys, "index", "remove", db, "q4", "q5", "nobody")
    assert removed == {"removed": 2, "missing": ["nobody"], "questions": 89}
    assert run(capsys, "index", "stats", db)["questions"] == 89
    assert run(capsys, "index", "compact", db)["bytes_after"] > 0
    assert run(capsys, "index", "verify", db) == {"problems": [], "questions": 89}


def test_a_file_of_new_questions_is_flagged(
    questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    db, out = tmp_path / "forum.db", tmp_path / "flags.csv"
    run(capsys, "index", "add", db, questions)
    write_rows(tmp_path / "new.jsonl", [{"question": "Who made chess?"}, {"question": TEXTS[9]}], ["question"])
    summary = run(capsys, "flag", db, "--questions", tmp_path / "new.jsonl", "-o", out, "-k", 4)
    rows = read(out)
    assert (summary["questions"], summary["flags"], len(rows)) == (2, 8, 8)
    assert [row["id"] for row in rows] == ["1"] * 4 + ["2"] * 4
    assert rows[4]["duplicate"] == TEXTS[9]


def test_verify_fails_for_a_damaged_index(questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    db = tmp_path / "forum.db"
    run(capsys, "index", "add", db, questions)
    run(capsys, "index", "compact", db)
    data = bytearray(db.read_bytes())
    middle = len(data) // 2 // 4096 * 4096  # vectors: the tables that are read on opening lie before them
    data[middle : middle + 4096] = b"\xff" * 4096
    db.write_bytes(data)
    for companion in ("-wal", "-shm"):
        Path(f"{db}{companion}").unlink(missing_ok=True)
    assert main(["index", "verify", str(db)]) == 1
    assert capsys.readouterr().out.strip()


def test_a_dump_can_be_mined_indexed_and_made_into_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    titles, links, _ = forum()
    folder = dump(tmp_path, dict(list(titles.items())[:90]), links[:60])
    summary = run(
        capsys, "mine", folder, "-o", tmp_path / "pairs.jsonl", "--min-cosine", 0.5, "--representative", "oldest"
    )
    assert summary["questions"] == 90
    assert run(capsys, "index", "add", tmp_path / "forum.db", folder / "Posts.xml")["added"] == 90
    for options in ([], ["--model", "mine"]):
        out = tmp_path / "labelled.csv"
        report = run(capsys, "data", "from-stackexchange", folder, "-o", out, "--negatives", 1.5, *options)
        rows = read(out)
        assert report["closed"] == sum(row["label"] == "1" for row in rows) == 60
        assert len(rows) == 150


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["mine", "questions.csv", "-o", "pairs.xls"], "'xls' cannot be written"),
        (["mine", "nobody.csv", "-o", "pairs.csv"], "No such file"),
        (["mine", "questions.csv", "-o", "pairs.csv", "--id-column", "key"], "no column 'key'"),
        (["flag", "nobody.db", "Why?"], "no such index"),
        (["flag", "questions.csv", "Why?"], "not an index"),
        (["flag", "questions.csv"], "one question, or --questions FILE"),
        (["flag", "questions.csv", "--questions", "questions.csv"], "--questions needs an output"),
        (["index", "stats", "nobody.db"], "no such index"),
        (["index", "remove", "questions.csv", "7"], "not an index"),
        (["data", "from-stackexchange", "empty", "-o", "pairs.csv"], "no PostLinks.xml"),
    ],
)
def test_errors_are_told_in_a_line_and_leave_nothing(
    questions: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    printed: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    before = sorted(path.name for path in tmp_path.iterdir())
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert printed in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    shutil.rmtree(tmp_path / "empty")
