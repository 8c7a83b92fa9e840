"""Commands that keep an index: the model, the sync with an export, verdicts, queue and groups."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dupq.cli.index_sync import parse_removals
from dupq.cli.main import main
from dupq.data.writing import write_rows
from dupq.errors import InputError
from dupq.index.question_index import QuestionIndex
from dupq.pipeline import DuplicatePipeline
from tests.fakes import WordEmbedder, WordScorer
from tests.index.stored import TEXTS as MANY
from tests.questions import labelled_table

TEXTS = MANY[:20]


@pytest.fixture(scope="module")
def judges() -> dict[str | None, DuplicatePipeline]:
    """Pipelines by the value of `--model`."""
    plain = DuplicatePipeline(WordScorer(), WordEmbedder()).calibrate(labelled_table())
    other = replace(plain, bi_encoder=WordEmbedder(dimensions=32, fingerprint="other"))
    return {None: plain, "other": other}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, judges: dict[str | None, DuplicatePipeline]) -> Path:
    """A working directory with an index forum.db of the ids 0 to 19."""
    for module in ("index", "index_model", "index_sync", "index_verdicts", "index_calibration"):
        monkeypatch.setattr(f"dupq.cli.{module}.open_pipeline", lambda args: judges[args.model])
    monkeypatch.chdir(tmp_path)
    with QuestionIndex("forum.db", judges[None]) as index:
        index.add(range(20), TEXTS, created=["2024-01-01"] * 20)
        index.flag_stored(range(20))
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    capsys.readouterr()
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert main([*map(str, arguments)]) == 2
    return capsys.readouterr().err


def read(path: str) -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


# ---- the model -----------------------------------------------------------------------------------------------------


def test_the_model_is_changed_and_changed_back(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(capsys, "flag", "forum.db", TEXTS[0], "--model", "other")
    assert "dupq index reembed DB --model DIR" in message
    found = run(capsys, "index", "reembed", "forum.db", "--model", "other")
    assert found == {"model": "other", "embedded": 20, "questions": 20, "dropped": []}
    models = run(capsys, "index", "models", "forum.db")["models"]
    assert [(model["fingerprint"], model["embedded"], model["present"]) for model in models] == [
        ("word-embedder", 20, False),
        ("other", 20, True),
    ]
    assert len(run(capsys, "flag", "forum.db", TEXTS[0], "--model", "other")["flags"]) == 10
    assert run(capsys, "index", "reembed", "forum.db", "--drop-old") == {
        "model": "word-embedder",
        "embedded": 0,
        "questions": 20,
        "dropped": ["other"],
    }
    assert main(["index", "models", "forum.db"]) == 0
    printed = capsys.readouterr().out
    assert "in use" in printed
    assert "20 of 20" in printed
    assert "other" not in printed
    assert run(capsys, "index", "stats", "forum.db")["models"][0]["present"]
    assert main(["index", "stats", "forum.db"]) == 0
    assert "[{" not in capsys.readouterr().out


def test_there_must_be_an_index(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("reembed", "models", "queue"):
        assert "no such index" in refused(capsys, "index", command, "none.db")
    assert not Path("none.db").exists()


# ---- sync ----------------------------------------------------------------------------------------------------------


def export(rows: dict[Any, str], **columns: Any) -> str:
    """Write a JSONL export: ids -> texts, and further columns."""
    lines = [{"id": id_, "text": text, **columns} for id_, text in rows.items()]
    Path("posts.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return "posts.jsonl"


def stored(judges: dict[str | None, DuplicatePipeline]) -> dict[Any, tuple[str, float, Any]]:
    with QuestionIndex("forum.db", judges[None]) as index:
        assert index.verify() == []
        found = index.questions(range(100))
        return {id_: (question.text, question.reach, question.details) for id_, question in found.items()}


def test_an_export_is_followed(
    folder: Path, capsys: pytest.CaptureFixture[str], judges: dict[str | None, DuplicatePipeline]
) -> None:
    texts = dict(enumerate(TEXTS)) | {3: "Who eats glass?", 40: "Who sells glass?"}
    del texts[7], texts[8]
    before = stored(judges)
    file = export(texts, views=5, title="T", body="<b>B</b>", tags="a,b", created="2024-06-01")
    counts = {"added": 1, "replaced": 1, "updated": 17, "unchanged": 0, "removed": 2, "kept": 0, "stored": 20}
    planned = run(capsys, "index", "sync", "forum.db", "--csv", file, "--dry-run")
    assert planned == {**counts, "questions": 19, "dry_run": True}
    assert stored(judges) == before
    assert run(capsys, "index", "sync", "forum.db", "--csv", file) == {**counts, "questions": 19, "dry_run": False}
    assert stored(judges) == {
        id_: (text, 5, {"title": "T", "body": "B", "tags": ["a", "b"], "views": 5}) for id_, text in texts.items()
    }
    again = run(capsys, "index", "sync", "forum.db", "--csv", file)
    assert (again["unchanged"], again["added"] + again["replaced"] + again["updated"] + again["removed"]) == (19, 0)


@pytest.mark.parametrize(
    ("lacking", "options", "allowed"),
    [
        (4, [], True),
        (5, [], False),
        (5, ["--allow-removals", "5"], True),
        (5, ["--allow-removals", "4"], False),
        (10, ["--allow-removals", "50%"], True),
        (11, ["--allow-removals", "50%"], False),
        (19, ["--keep-missing"], True),
    ],
)
def test_the_limit_of_removals(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    judges: dict[str | None, DuplicatePipeline],
    lacking: int,
    options: list[str],
    allowed: bool,
) -> None:
    file = export({id_: f"{text} 2" for id_, text in enumerate(TEXTS) if id_ >= lacking})
    before = stored(judges)
    command = ["index", "sync", "forum.db", "--csv", file, *options]
    if allowed:
        kept = options == ["--keep-missing"]
        found = run(capsys, *command)
        assert (found["removed"], found["kept"]) == ((0, lacking) if kept else (lacking, 0))
        assert found["questions"] == (20 if kept else 20 - lacking)
    else:
        message = refused(capsys, *command)
        assert f"the export lacks {lacking} of 20" in message
        assert "--keep-missing" in message
        assert stored(judges) == before
        assert main([*command, "--dry-run"]) == 0
        assert "would be refused" in capsys.readouterr().err


def test_a_question_that_is_newer_than_the_export_stays(
    folder: Path, capsys: pytest.CaptureFixture[str], judges: dict[str | None, DuplicatePipeline]
) -> None:
    with QuestionIndex("forum.db", judges[None]) as index:
        index.add([50, 51], ["Who eats glass?", "Who sells glass?"], created=["2024-03-02", "2024-02-29"])
    file = export(dict(enumerate(TEXTS)), created="2024-03-01")
    found = run(capsys, "index", "sync", "forum.db", "--csv", file)
    assert (found["removed"], found["kept"]) == (1, 1)
    assert {50, 51} & {*stored(judges)} == {50}


def test_ids_of_another_type_are_not_taken_for_new_ones(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows("posts.csv", [{"id": at, "text": text} for at, text in enumerate(TEXTS)], ["id", "text"])
    assert "the same ids" in refused(capsys, "index", "sync", "forum.db", "--csv", "posts.csv")
    found = run(capsys, "index", "sync", "forum.db", "--csv", "posts.csv", "--id-type", "int")
    assert found["unchanged"] == 20


def test_a_discourse_export_is_followed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    topics = [
        {"id": at, "title": text, "created_at": "2024-01-01T00:00:00.000Z", "views": 9, "archetype": "regular"}
        | {"posts": [{"post_number": 1, "raw": "body"}, {"post_number": 2, "raw": "answer"}]}
        for at, text in enumerate(TEXTS)
    ]
    Path("topics.json").write_text(json.dumps({"topics": topics}))
    found = run(capsys, "index", "sync", "forum.db", "--discourse-export", "topics.json")
    assert (found["updated"], found["removed"]) == (20, 0)
    with QuestionIndex("forum.db") as index:
        question = index.questions([3])[3]
    assert question.details == {"title": TEXTS[3], "body": "body", "answers": 1, "views": 9}
    assert question.reach == 9
    message = refused(capsys, "index", "sync", "forum.db", "--discourse-export", "topics.json", "--id-column", "topic")
    assert "--id-column does not apply" in message


def test_a_stack_exchange_dump_makes_an_index(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("dump").mkdir()
    rows = "".join(f'<row Id="{at}" PostTypeId="1" Title="{text}" ViewCount="7"/>' for at, text in enumerate(TEXTS))
    Path("dump/Posts.xml").write_text(f"<posts>{rows}</posts>")
    found = run(capsys, "index", "sync", "new.db", "--stackexchange", "dump")
    assert (found["added"], found["stored"], found["questions"]) == (20, 0, 20)
    assert "use --stackexchange" in refused(capsys, "index", "sync", "new.db", "--csv", "dump")
    assert "no Stack Exchange dump" in refused(
        capsys, "index", "sync", "new.db", "--stackexchange", export({1: "Why?"})
    )


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("500", 500), ("35%", 0.35), ("0.5 %", 0.005), ("100%", 1.0)])
def test_removals_are_a_number_or_a_share(text: str, value: float) -> None:
    found = parse_removals(text)
    assert found == pytest.approx(value)
    assert type(found) is type(value)


@pytest.mark.parametrize("text", ["", "%", "-1", "101%", "many", "0.2", "nan%", "inf%"])
def test_other_removals_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="--allow-removals must be"):
        parse_removals(text)


# ---- verdicts ------------------------------------------------------------------------------------------------------


def test_verdicts_are_given_taken_back_and_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def give(id1: object, id2: object, answer: str, by: str) -> Any:
        return run(capsys, "index", "verdict", "forum.db", id1, id2, answer, "--by", by, "--note", "=1+1")

    assert give(0, 1, "duplicate", "ann")["answer"] == "duplicate"
    assert give(1, 0, "distinct", "bob")["answer"] == "contested"
    assert give(2, 3, "duplicate", "ann")["verdict"]["number"] == 3
    assert give(4, 5, "distinct", "ann")["answer"] == "distinct"
    assert run(capsys, "index", "undo", "forum.db", "--by", "ann")["answer"] == "none"
    assert "given by 'bob'" in refused(capsys, "index", "undo", "forum.db", "2", "--by", "ann")
    assert run(capsys, "index", "verdicts", "forum.db", "-o", "all.csv")["verdicts"] == 5
    rows = read("all.csv")
    assert [row["answer"] for row in rows] == ["duplicate", "distinct", "duplicate", "distinct", "undo"]
    assert (rows[0]["question1"], rows[0]["question2"]) == (TEXTS[0], TEXTS[1])
    assert rows[0]["note"] == "'=1+1"
    assert rows[4]["undoes"] == "4"
    assert run(capsys, "index", "verdicts", "forum.db", "--standing", "-o", "now.jsonl")["pairs"] == 2
    standing = [json.loads(line) for line in Path("now.jsonl").read_text().splitlines()]
    assert [(row["id1"], row["id2"], row["answer"], row["by"]) for row in standing] == [
        (0, 1, "contested", "ann, bob"),
        (2, 3, "duplicate", "ann"),
    ]
    message = refused(capsys, "index", "verdicts", "forum.db", "-o", "forum.db")
    assert "forum.db" in message
    assert "no question has the id" in refused(
        capsys, "index", "verdict", "forum.db", "0", "99", "duplicate", "--by", "ann"
    )


def test_the_queue_and_the_groups(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = run(capsys, "index", "queue", "forum.db", "--limit", 3)["pairs"]
    assert len(pairs) == 3
    assert all(0 < pair["sampled"] <= 1 for pair in pairs)
    assert main(["index", "queue", "forum.db", "--limit", "3"]) == 0
    assert pairs[0]["question"]["text"] in capsys.readouterr().out
    first, second = pairs[0]["question"]["id"], pairs[0]["other"]["id"]
    run(capsys, "index", "verdict", "forum.db", first, second, "duplicate", "--by", "ann")
    left = run(capsys, "index", "queue", "forum.db", "--limit", 3)["pairs"]
    assert (first, second) not in {(pair["question"]["id"], pair["other"]["id"]) for pair in left}
    assert run(capsys, "index", "groups", "forum.db", "-o", "groups.csv")["groups"] == 1
    rows = read("groups.csv")
    assert {int(row["id"]) for row in rows} == {first, second}
    assert {row["question"] for row in rows} == {TEXTS[first], TEXTS[second]}
    assert len({row["canonical"] for row in rows}) == 1
    assert {row["members"] for row in rows} == {"2"}


# ---- calibration ---------------------------------------------------------------------------------------------------


def test_a_verdict_keeps_why_the_pair_was_listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    item = run(capsys, "index", "queue", "forum.db", "--limit", 1)["pairs"][0]
    ids = (item["question"]["id"], item["other"]["id"])
    row = run(capsys, "index", "verdict", "forum.db", *ids, "distinct", "--by", "anna", "--chosen", "audit")["verdict"]
    assert (row["chosen"], row["sampled"]) == ("audit", item["sampled"])
    free = run(capsys, "index", "verdict", "forum.db", *ids, "distinct", "--by", "ben")["verdict"]
    assert (free["chosen"], free["sampled"]) == ("", None)


def test_what_a_moderator_reads_is_added_with_the_question(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"id": "n1", "title": "How do I sew a button?", "body": "It fell off.", "tags": "sewing;help", "views": 7}]
    write_rows("new.csv", rows, tuple(rows[0]))
    run(capsys, "index", "add", "forum.db", "new.csv", "--id-type", "text")
    with QuestionIndex("forum.db") as index:
        (stored,) = index.questions(["n1"]).values()
    assert stored.details is not None
    assert (stored.details["body"], stored.details["tags"], stored.reach) == ("It fell off.", ["sewing", "help"], 7)


def test_verdicts_calibrate_the_index(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(capsys, "index", "calibrate", "forum.db")
    assert "verdicts" in message
    with QuestionIndex("forum.db") as index:
        for at, item in enumerate(index.review_queue(60)):
            index.verdict(item.question.id, item.other.id, "distinct" if at % 3 else "duplicate", by="ann")
    trial = run(capsys, "index", "calibrate", "forum.db", "--dry-run")
    assert trial["number"] is None
    assert run(capsys, "index", "calibrations", "forum.db") == {"calibrations": []}
    assert main(["index", "calibrate", "forum.db", "--by", "ann"]) == 0
    printed = capsys.readouterr().out
    assert "held-out" in printed
    assert "->" in printed
    found = run(capsys, "index", "calibrations", "forum.db")["calibrations"]
    assert [(version["number"], version["by"], version["in_use"]) for version in found] == [(1, "ann", True)]
    assert run(capsys, "index", "monitor", "forum.db")["calibration"] == 1
    assert run(capsys, "index", "roll-back", "forum.db", 0) == {"calibration": 0}
    assert run(capsys, "index", "monitor", "forum.db")["calibration"] == 0
    assert "7" in refused(capsys, "index", "roll-back", "forum.db", 7)


def test_new_questions_are_decided_for_the_queue(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "index", "decide", "forum.db") == {"questions": 0, "pairs": 0}
    write_rows(folder / "new.csv", [{"id": "new", "question": f"{TEXTS[3]} really"}], ["id", "question"])
    run(capsys, "index", "add", "forum.db", "new.csv")
    assert run(capsys, "index", "decide", "forum.db") == {"questions": 1, "pairs": 10}
    queue = run(capsys, "index", "queue", "forum.db", "--limit", 500)["pairs"]
    assert sum("new" in (pair["question"]["id"], pair["other"]["id"]) for pair in queue) == 10
    assert run(capsys, "index", "decide", "forum.db", "--all")["questions"] == 21
